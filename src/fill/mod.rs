//! placeholder
#[derive(Debug)]
pub struct Failure;
impl Failure {
    pub fn weight(&self) -> usize {
        0
    }
}
