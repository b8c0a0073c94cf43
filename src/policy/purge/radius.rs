//! The blast radius: a hard purge that would empty too much at once becomes soft.
//!
//! That is the operator's choice, because it takes a promise back: for the grace of a soft purge an old answer may be
//! served after the acknowledgement, which says so. What is firm keeps its mode: a deletion, and what its sender wants
//! forgotten at once whatever it costs.

use std::collections::HashSet;

use super::{Mode, Purge};

/// What of a purge may become soft, as a purge of its own; `None` for nothing.
pub fn softens(purge: &Purge, firm: &HashSet<String>) -> Option<Purge> {
    let tags: Vec<_> = purge.tags.iter().filter(|(tag, mode)| may_soften(tag, *mode, firm)).cloned().collect();
    (!tags.is_empty()).then(|| Purge { tags, ..Purge::default() })
}

/// Makes soft what may be.
pub fn soften(purge: &mut Purge, firm: &HashSet<String>) {
    for (tag, mode) in &mut purge.tags {
        if may_soften(tag, *mode, firm) {
            *mode = Mode::Soft;
        }
    }
}

fn may_soften(tag: &str, mode: Mode, firm: &HashSet<String>) -> bool {
    mode == Mode::Hard && !firm.contains(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_hard_and_not_firm_becomes_soft() {
        let tag = |tag: &str, mode| (tag.to_owned(), mode);
        let all = [tag("a", Mode::Hard), tag("b", Mode::Soft), tag("c", Mode::Delete), tag("key:x", Mode::Hard)];
        let mut purge = Purge { tags: all.to_vec(), source: "s".into(), event_id: "e".into(), ..Purge::default() };
        let firm = HashSet::from(["key:x".to_owned()]);
        assert_eq!(softens(&purge, &firm).unwrap().tags, all[..1]);
        soften(&mut purge, &firm);
        let [_, b, c, x] = all;
        assert_eq!(purge.tags, [tag("a", Mode::Soft), b, c, x]);
        assert_eq!((purge.source.as_str(), purge.event_id.as_str()), ("s", "e"));
        assert_eq!(softens(&purge, &firm), None);
    }
}
