//! The shop: what its database holds, what it answers, and how a change is announced.

use endcap::policy::purge::Mode;
use serde_json::json;

/// Products that there can be.
pub(crate) const PRODUCTS: usize = 4;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// The list of all products.
    All,
    /// The list of every other product.
    Even,
    /// One product.
    Product(usize),
}

impl Page {
    pub(crate) const EACH: [Self; 2 + PRODUCTS] =
        [Self::All, Self::Even, Self::Product(0), Self::Product(1), Self::Product(2), Self::Product(3)];

    pub(crate) fn target(self) -> String {
        match self {
            Self::All => "/store/products".to_owned(),
            Self::Even => "/store/products?q=even".to_owned(),
            Self::Product(product) => format!("/store/products/prod_{product}"),
        }
    }

    pub(crate) fn of_target(target: &str) -> Option<Self> {
        Self::EACH.into_iter().find(|page| page.target() == target)
    }

    /// Whether it shows a product that there is.
    fn shows(self, product: usize) -> bool {
        match self {
            Self::All => true,
            Self::Even => product.is_multiple_of(2),
            Self::Product(own) => own == product,
        }
    }

    fn is_list(self) -> bool {
        !matches!(self, Self::Product(_))
    }
}

/// What happens in the shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Created(usize),
    Updated(usize),
    /// As `Updated`, but announced softly.
    Touched(usize),
    Deleted(usize),
    /// As `Deleted`, and gone from lists even when the origin fails.
    Vanished(usize),
    Everything,
}

impl Change {
    /// The webhook's body; the configuration says what it purges.
    pub(crate) fn event(self) -> String {
        let (name, product) = match self {
            Self::Created(product) => ("product.created", product),
            Self::Updated(product) => ("product.updated", product),
            Self::Touched(product) => ("product.touched", product),
            Self::Deleted(product) => ("product.deleted", product),
            Self::Vanished(product) => ("product.vanished", product),
            Self::Everything => return json!({ "type": "shop.changed", "data": {} }).to_string(),
        };
        json!({ "type": name, "data": { "id": format!("prod_{product}") } }).to_string()
    }

    /// Whether a page is another one after it.
    pub(crate) fn concerns(self, page: Page) -> bool {
        match self {
            Self::Created(product)
            | Self::Updated(product)
            | Self::Touched(product)
            | Self::Deleted(product)
            | Self::Vanished(product) => page.shows(product),
            Self::Everything => true,
        }
    }

    /// How its purge forgets an answer from before it, which shows these products: by the map of events
    /// in the configuration.
    pub(crate) fn forgets(self, page: Page, shown: &[usize]) -> Mode {
        match self {
            Self::Everything => Mode::Hard,
            Self::Created(_) if page.is_list() => Mode::Soft,
            Self::Created(_) => Mode::Hard,
            Self::Touched(_) => Mode::Soft,
            // A list that does not show the product has the soft tag alone.
            Self::Updated(product) | Self::Deleted(product) | Self::Vanished(product)
                if page.is_list() && !shown.contains(&product) =>
            {
                Mode::Soft
            }
            Self::Updated(_) => Mode::Hard,
            Self::Deleted(_) if page.is_list() => Mode::Hard,
            Self::Deleted(_) | Self::Vanished(_) => Mode::Delete,
        }
    }
}

/// What the origin reads.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    commits: u64,
    exists: [bool; PRODUCTS],
    /// The newest commit that each page shows.
    revisions: [u64; Page::EACH.len()],
    /// What it was before, and until when.
    before: Option<(Box<Self>, u64)>,
}

/// What a page holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) is_found: bool,
    pub(crate) shown: Vec<usize>,
    pub(crate) revision: u64,
}

impl Content {
    pub(crate) fn body(&self) -> String {
        let ids: Vec<_> = self.shown.iter().map(|product| json!({ "id": format!("prod_{product}") })).collect();
        json!({ "products": ids, "revision": self.revision }).to_string()
    }

    /// Reads a body; `None` for one that is no page of the shop's.
    pub(crate) fn parse(status: u16, body: &[u8]) -> Option<Self> {
        let body: serde_json::Value = serde_json::from_slice(body).ok()?;
        let product = |item: &serde_json::Value| item["id"].as_str()?.strip_prefix("prod_")?.parse().ok();
        let shown = body["products"].as_array()?.iter().filter_map(product).collect();
        Some(Self { is_found: status == 200, shown, revision: body["revision"].as_u64()? })
    }
}

impl Database {
    pub(crate) fn new() -> Self {
        Self { commits: 0, exists: [true, true, false, true], revisions: [0; Page::EACH.len()], before: None }
    }

    /// A change that makes sense to a product as it is; `variant` chooses.
    pub(crate) fn possible(&self, product: usize, variant: u64) -> Change {
        match (self.exists[product], variant) {
            (_, 0) => Change::Everything,
            (false, _) => Change::Created(product),
            (true, 1) => Change::Deleted(product),
            (true, 2) => Change::Vanished(product),
            (true, 3 | 4) => Change::Touched(product),
            (true, _) => Change::Updated(product),
        }
    }

    /// Commits a change and says as which.
    pub(crate) fn commit(&mut self, change: Change, now: u64) -> u64 {
        self.before = Some((Box::new(self.clone()), now));
        self.commits += 1;
        match change {
            Change::Created(product) => self.exists[product] = true,
            Change::Deleted(product) | Change::Vanished(product) => self.exists[product] = false,
            Change::Updated(_) | Change::Touched(_) | Change::Everything => {}
        }
        for (page, revision) in Page::EACH.into_iter().zip(&mut self.revisions) {
            if change.concerns(page) {
                *revision = self.commits;
            }
        }
        self.commits
    }

    /// What a replica says that knows all that was committed before `at`.
    pub(crate) fn read_at(&self, page: Page, at: u64) -> Content {
        match &self.before {
            Some((before, until)) if *until > at => before.read_at(page, at),
            _ => self.read(page),
        }
    }

    pub(crate) fn read(&self, page: Page) -> Content {
        let shown: Vec<_> = (0..PRODUCTS).filter(|product| self.exists[*product] && page.shows(*product)).collect();
        let at = Page::EACH.iter().position(|each| *each == page).unwrap();
        Content { is_found: page.is_list() || !shown.is_empty(), shown, revision: self.revisions[at] }
    }
}
