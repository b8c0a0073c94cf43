//! Carts: private, in memory, the oldest forgotten first. Their id is their only secret, as on the real backend.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::cart_views::{CartView, view};
use super::catalogue::Catalogue;
use super::ids::Id;
use super::reply::ApiError;
use crate::clock::Timestamp;

/// How many carts are kept; a new one beyond that takes the place of the oldest.
const CARTS_MAX: usize = 1_024;

/// How many lines a cart has at most; a further one is refused.
const LINES_MAX: usize = 100;

/// How many of one thing a line has at most.
const QUANTITY_MAX: u64 = 1_000;

/// All carts.
#[derive(Debug, Default)]
pub(super) struct Carts {
    shelf: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    by_id: HashMap<String, Cart>,
    /// Oldest first; the same ids as in the map.
    order: VecDeque<String>,
}

/// A cart.
#[derive(Debug)]
pub(super) struct Cart {
    pub(super) id: Id,
    pub(super) region: usize,
    pub(super) lines: Vec<Line>,
    pub(super) updated_at: Timestamp,
}

/// So many of a variant.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) id: Id,
    pub(super) product: usize,
    pub(super) rank: usize,
    pub(super) quantity: u64,
}

/// The body of a request for a new cart.
#[derive(Debug, Default, Deserialize)]
pub(super) struct CartRequest {
    region_id: Option<String>,
}

/// The body of a request for a line more.
#[derive(Debug, Deserialize)]
pub(super) struct LineRequest {
    variant_id: String,
    quantity: u64,
}

impl Carts {
    /// Makes a cart; without a region it is in the first one.
    pub(super) fn create(
        &self,
        catalogue: &Catalogue,
        request: &CartRequest,
        now: Timestamp,
    ) -> Result<Vec<u8>, ApiError> {
        let region = match request.region_id.as_deref() {
            None => 0,
            Some(id) => catalogue.region(id).ok_or_else(|| ApiError::not_found("Region", id))?,
        };
        let id = Id::new("cart", now, secret());
        let cart = Cart { id, region, lines: Vec::new(), updated_at: now };
        let body = body(catalogue, &cart)?;

        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        if shelf.order.len() >= CARTS_MAX
            && let Some(oldest) = shelf.order.pop_front()
        {
            shelf.by_id.remove(&oldest);
        }
        shelf.order.push_back(id.to_string());
        shelf.by_id.insert(id.to_string(), cart);
        Ok(body)
    }

    /// The body of the cart with an id.
    pub(super) fn show(&self, catalogue: &Catalogue, id: &str) -> Result<Vec<u8>, ApiError> {
        let shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        body(catalogue, shelf.by_id.get(id).ok_or_else(|| ApiError::not_found("Cart", id))?)
    }

    /// The region of the cart with an id.
    pub(super) fn region(&self, id: &str) -> Result<usize, ApiError> {
        let shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.by_id.get(id).map(|cart| cart.region).ok_or_else(|| ApiError::not_found("Cart", id))
    }

    /// Puts a variant into the cart with an id; the same one again adds to its line.
    pub(super) fn add(
        &self,
        catalogue: &Catalogue,
        id: &str,
        request: &LineRequest,
        now: Timestamp,
    ) -> Result<Vec<u8>, ApiError> {
        if !(1..=QUANTITY_MAX).contains(&request.quantity) {
            return Err(ApiError::invalid(format!(
                "Invalid request: Expected type: 'number' from 1 to {QUANTITY_MAX} for field 'quantity', got: '{}'",
                request.quantity
            )));
        }
        let (product, rank) = catalogue
            .variant(&request.variant_id)
            .ok_or_else(|| ApiError::invalid(format!("Variant with id: {} does not exist", request.variant_id)))?;
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let cart = shelf.by_id.get_mut(id).ok_or_else(|| ApiError::not_found("Cart", id))?;

        let same = cart.lines.iter().position(|line| (line.product, line.rank) == (product, rank));
        match same {
            Some(at) => {
                let quantity = &mut cart.lines[at].quantity;
                *quantity = quantity.saturating_add(request.quantity).min(QUANTITY_MAX);
            }
            None if cart.lines.len() >= LINES_MAX => {
                return Err(ApiError::invalid(format!("A cart has at most {LINES_MAX} lines")));
            }
            None => {
                cart.lines.push(Line { id: Id::new("cali", now, secret()), product, rank, quantity: request.quantity })
            }
        }
        cart.updated_at = now;
        body(catalogue, cart)
    }
}

/// A number that nobody guesses: whoever knows a cart's id may read the cart. The standard library's hasher is keyed
/// from the system's randomness, and that saves a dependency for a demonstration.
fn secret() -> u64 {
    RandomState::new().hash_one(0)
}

fn body(catalogue: &Catalogue, cart: &Cart) -> Result<Vec<u8>, ApiError> {
    #[derive(Serialize)]
    struct Envelope<'a> {
        cart: CartView<'a>,
    }
    Ok(serde_json::to_vec(&Envelope { cart: view(catalogue, cart) })?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::generate::catalogue;

    const NOW: Timestamp = Timestamp::from_millis(1_795_229_700_000);

    fn id_of(body: &[u8]) -> String {
        let body: serde_json::Value = serde_json::from_slice(body).unwrap();
        body["cart"]["id"].as_str().unwrap().to_owned()
    }

    #[test]
    fn the_oldest_cart_is_forgotten_at_the_bound() {
        let (catalogue, carts) = (catalogue(1), Carts::default());
        let create = || id_of(&carts.create(&catalogue, &CartRequest::default(), NOW).unwrap());
        let first = create();
        let second = create();
        for _ in 0..CARTS_MAX - 1 {
            create();
        }
        assert!(carts.show(&catalogue, &first).is_err());
        assert!(carts.show(&catalogue, &second).is_ok());
        assert_eq!(carts.shelf.lock().unwrap().by_id.len(), CARTS_MAX);
    }

    #[test]
    fn a_line_has_a_quantity_within_bounds() {
        let (catalogue, carts) = (catalogue(1), Carts::default());
        let cart = id_of(&carts.create(&catalogue, &CartRequest::default(), NOW).unwrap());
        let add = |quantity| {
            let variant_id = catalogue.products[0].variants[0].id.to_string();
            carts.add(&catalogue, &cart, &LineRequest { variant_id, quantity }, NOW)
        };
        assert!(add(0).is_err());
        assert!(add(QUANTITY_MAX + 1).is_err());
        assert!(add(QUANTITY_MAX).is_ok());
        assert!(add(QUANTITY_MAX).is_ok());
        assert_eq!(carts.shelf.lock().unwrap().by_id[&cart].lines[0].quantity, QUANTITY_MAX);
    }
}
