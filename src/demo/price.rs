//! Money, and the price that one shopper in one region is shown.

use std::fmt;

use serde::{Serialize, Serializer};

use super::catalogue::Variant;
use super::ids::Id;
use super::words::REGION_COUNT;
use crate::clock::Timestamp;

/// The bearer token of a customer of the group with its own prices: on a public address, and nothing in the
/// answer says so, as on the real backend.
pub const VIP_TOKEN: &str = "demo-vip";

/// What is added for tax when a country is named, in percent.
const TAX_PERCENT: u64 = 20;

/// An amount of money in hundredths of its currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Amount(u64);

impl Amount {
    /// Nothing.
    pub(super) const ZERO: Self = Self(0);

    /// From hundredths.
    pub(super) const fn from_cents(cents: u64) -> Self {
        Self(cents)
    }

    /// From a number as JSON has it, rounded to hundredths; none if it is not a price (below 0, above a million).
    pub(super) fn from_decimal(decimal: f64) -> Option<Self> {
        if !(0.0..=1_000_000.0).contains(&decimal) {
            return None;
        }
        // By way of text, because a cast from a float can lose silently. The sign of -0.0 is dropped.
        let text = format!("{:.2}", decimal.abs());
        let (whole, cents) = text.split_once('.')?;
        Some(Self(whole.parse::<u64>().ok()? * 100 + cents.parse::<u64>().ok()?))
    }

    /// So many per cent of it.
    pub(super) const fn percent(self, percent: u64) -> Self {
        Self(self.0.saturating_mul(percent) / 100)
    }

    /// So many times it.
    pub(super) const fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(count))
    }

    /// Both together.
    pub(super) const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, cents) = (self.0 / 100, self.0 % 100);
        match cents {
            0 => write!(f, "{whole}"),
            _ if cents.is_multiple_of(10) => write!(f, "{whole}.{}", cents / 10),
            _ => write!(f, "{whole}.{cents:02}"),
        }
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(100) {
            serializer.serialize_u64(self.0 / 100)
        } else {
            // Two numbers exact in a float: the quotient is the float nearest to the decimal.
            serializer.serialize_f64(self.0 as f64 / 100.0)
        }
    }
}

/// What a variant costs in one region.
#[derive(Clone, Copy, Debug)]
pub(super) struct RegionPrice {
    pub(super) id: Id,
    pub(super) original: Amount,
    /// The price of the sale's list, if the variant is in it.
    pub(super) sale: Option<Amount>,
}

/// For whom prices are calculated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shopper {
    /// The region's index.
    pub(super) region: usize,
    /// Whether a country was named: then amounts with tax are shown too.
    pub(super) taxed: bool,
    /// Whether the customer is of the group with its own prices.
    pub(super) vip: bool,
}

/// Something made up for prices: lists have an id of their own.
#[derive(Clone, Copy, Debug)]
enum PriceList {
    Sale,
    Vip,
}

impl PriceList {
    fn id(self) -> Id {
        let (number, at) = match self {
            Self::Sale => (1, 1_795_229_643_173),
            Self::Vip => (2, 1_795_229_643_201),
        };
        Id::new("plist", Timestamp::from_millis(at), number)
    }

    const fn kind(self) -> &'static str {
        match self {
            Self::Sale => "sale",
            Self::Vip => "override",
        }
    }
}

/// `variants[].calculated_price`.
#[derive(Debug, Serialize)]
pub(super) struct CalculatedPrice {
    id: Id,
    is_calculated_price_price_list: bool,
    is_calculated_price_tax_inclusive: bool,
    pub(super) calculated_amount: Amount,
    raw_calculated_amount: RawAmount,
    is_original_price_price_list: bool,
    is_original_price_tax_inclusive: bool,
    pub(super) original_amount: Amount,
    raw_original_amount: RawAmount,
    currency_code: &'static str,
    calculated_price: PriceSource,
    original_price: PriceSource,
    #[serde(flatten)]
    taxes: Option<Taxes>,
}

#[derive(Debug, Serialize)]
struct RawAmount {
    value: String,
    precision: u8,
}

#[derive(Debug, Serialize)]
struct PriceSource {
    id: Id,
    price_list_id: Option<Id>,
    price_list_type: Option<&'static str>,
    min_quantity: (),
    max_quantity: (),
}

#[derive(Debug, Serialize)]
struct Taxes {
    calculated_amount_with_tax: Amount,
    calculated_amount_without_tax: Amount,
    original_amount_with_tax: Amount,
    original_amount_without_tax: Amount,
}

/// Calculates what a shopper is shown for a variant.
pub(super) fn calculate(variant: &Variant, shopper: Shopper) -> CalculatedPrice {
    debug_assert!(shopper.region < REGION_COUNT);
    let price = &variant.prices[shopper.region];
    let sale = price.sale.map(|amount| (amount, PriceList::Sale));
    let vip = shopper.vip.then(|| (price.original.percent(85), PriceList::Vip));
    // The cheapest list wins; without a list the price stands.
    let listed = [sale, vip].into_iter().flatten().min_by_key(|(amount, _)| *amount);
    let calculated = listed.map_or(price.original, |(amount, _)| amount);
    let list = listed.map(|(_, list)| list);

    CalculatedPrice {
        id: variant.price_set,
        is_calculated_price_price_list: list.is_some(),
        is_calculated_price_tax_inclusive: false,
        calculated_amount: calculated,
        raw_calculated_amount: raw(calculated),
        is_original_price_price_list: false,
        is_original_price_tax_inclusive: false,
        original_amount: price.original,
        raw_original_amount: raw(price.original),
        currency_code: super::words::REGIONS[shopper.region].currency_code,
        calculated_price: source(price.id, list),
        original_price: source(price.id, None),
        taxes: shopper.taxed.then(|| Taxes {
            calculated_amount_with_tax: calculated.percent(100 + TAX_PERCENT),
            calculated_amount_without_tax: calculated,
            original_amount_with_tax: price.original.percent(100 + TAX_PERCENT),
            original_amount_without_tax: price.original,
        }),
    }
}

fn raw(amount: Amount) -> RawAmount {
    RawAmount { value: amount.to_string(), precision: 20 }
}

fn source(id: Id, list: Option<PriceList>) -> PriceSource {
    PriceSource {
        id,
        price_list_id: list.map(PriceList::id),
        price_list_type: list.map(PriceList::kind),
        min_quantity: (),
        max_quantity: (),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_as_the_backend_writes_them() {
        let check = |cents, text: &str| {
            assert_eq!(Amount::from_cents(cents).to_string(), text);
            assert_eq!(serde_json::to_string(&Amount::from_cents(cents)).unwrap(), text);
        };
        check(18_300, "183");
        check(1250, "12.5");
        check(1205, "12.05");
        check(1999, "19.99");
        check(0, "0");
    }

    #[test]
    fn amounts_are_read_to_the_hundredth() {
        let check = |decimal, cents: Option<u64>| {
            assert_eq!(Amount::from_decimal(decimal), cents.map(Amount::from_cents), "{decimal}");
        };
        check(12.5, Some(1250));
        check(0.1 + 0.2, Some(30));
        check(0.0, Some(0));
        check(-0.0, Some(0));
        check(-0.01, None);
        check(f64::NAN, None);
        check(f64::INFINITY, None);
        check(1_000_001.0, None);
    }
}
