//! The tables from which the catalogue is made up.

/// A country as an answer shows it: ISO 3166 codes, name in capitals, name to display.
pub(super) type Country = (&'static str, &'static str, &'static str, &'static str, &'static str);

/// A sales region.
#[derive(Debug)]
pub(super) struct RegionSpec {
    /// The short name by which a price change may say where it holds.
    pub(super) key: &'static str,
    pub(super) name: &'static str,
    pub(super) currency_code: &'static str,
    pub(super) countries: &'static [Country],
}

/// How many regions there are; each variant has a price in each.
pub(super) const REGION_COUNT: usize = 3;

pub(super) const REGIONS: [RegionSpec; REGION_COUNT] = [
    RegionSpec {
        key: "eu",
        name: "Europe",
        currency_code: "eur",
        countries: &[
            ("at", "aut", "040", "AUSTRIA", "Austria"),
            ("be", "bel", "056", "BELGIUM", "Belgium"),
            ("dk", "dnk", "208", "DENMARK", "Denmark"),
            ("fr", "fra", "250", "FRANCE", "France"),
            ("de", "deu", "276", "GERMANY", "Germany"),
            ("it", "ita", "380", "ITALY", "Italy"),
            ("nl", "nld", "528", "NETHERLANDS", "Netherlands"),
            ("pl", "pol", "616", "POLAND", "Poland"),
            ("es", "esp", "724", "SPAIN", "Spain"),
            ("se", "swe", "752", "SWEDEN", "Sweden"),
        ],
    },
    RegionSpec {
        key: "us",
        name: "North America",
        currency_code: "usd",
        countries: &[("ca", "can", "124", "CANADA", "Canada"), ("us", "usa", "840", "UNITED STATES", "United States")],
    },
    RegionSpec {
        key: "uk",
        name: "United Kingdom",
        currency_code: "gbp",
        countries: &[("gb", "gbr", "826", "UNITED KINGDOM", "United Kingdom")],
    },
];

/// A currency: code, symbol, its own symbol, name, decimal digits.
pub(super) type CurrencySpec = (&'static str, &'static str, &'static str, &'static str, u8);

pub(super) const CURRENCIES: [CurrencySpec; 24] = [
    ("aud", "AU$", "$", "Australian Dollar", 2),
    ("bgn", "BGN", "лв.", "Bulgarian Lev", 2),
    ("brl", "R$", "R$", "Brazilian Real", 2),
    ("cad", "CA$", "$", "Canadian Dollar", 2),
    ("chf", "CHF", "CHF", "Swiss Franc", 2),
    ("clp", "CL$", "$", "Chilean Peso", 0),
    ("cny", "CN¥", "CN¥", "Chinese Yuan", 2),
    ("czk", "Kč", "Kč", "Czech Republic Koruna", 2),
    ("dkk", "Dkr", "kr", "Danish Krone", 2),
    ("eur", "€", "€", "Euro", 2),
    ("gbp", "£", "£", "British Pound Sterling", 2),
    ("huf", "Ft", "Ft", "Hungarian Forint", 0),
    ("ils", "₪", "₪", "Israeli New Sheqel", 2),
    ("inr", "Rs", "₹", "Indian Rupee", 2),
    ("jpy", "¥", "¥", "Japanese Yen", 0),
    ("krw", "₩", "₩", "South Korean Won", 0),
    ("mxn", "MX$", "$", "Mexican Peso", 2),
    ("nok", "Nkr", "kr", "Norwegian Krone", 2),
    ("nzd", "NZ$", "$", "New Zealand Dollar", 2),
    ("pln", "zł", "zł", "Polish Zloty", 2),
    ("sek", "Skr", "kr", "Swedish Krona", 2),
    ("try", "TL", "TL", "Turkish Lira", 2),
    ("usd", "$", "$", "US Dollar", 2),
    ("zar", "R", "R", "South African Rand", 2),
];

pub(super) const LOOKS: [&str; 8] = ["Rugged", "Soft", "Light", "Heavy", "Striped", "Washed", "Plain", "Raw"];
pub(super) const MATERIALS: [&str; 8] = ["wool", "cotton", "linen", "denim", "hemp", "canvas", "fleece", "leather"];
pub(super) const TYPES: [&str; 12] =
    ["Tee", "Shirt", "Jacket", "Jean", "Chino", "Parka", "Runner", "Boot", "Scarf", "Cap", "Mug", "Blanket"];
pub(super) const ORIGINS: [&str; 6] = ["pt", "it", "tr", "in", "vn", "se"];
pub(super) const SEASONS: [&str; 3] = ["aw25", "ss25", "ss26"];

/// The words of a description.
pub(super) const PROSE: [&str; 48] = [
    "woven",
    "in",
    "small",
    "batches",
    "with",
    "a",
    "relaxed",
    "cut",
    "and",
    "reinforced",
    "seams",
    "the",
    "fabric",
    "is",
    "dyed",
    "by",
    "hand",
    "from",
    "recycled",
    "cotton",
    "that",
    "keeps",
    "its",
    "shape",
    "made",
    "for",
    "everyday",
    "wear",
    "wash",
    "cold",
    "hang",
    "to",
    "dry",
    "iron",
    "on",
    "low",
    "heat",
    "breathable",
    "lining",
    "buttons",
    "of",
    "horn",
    "collar",
    "shell",
    "ages",
    "well",
    "every",
    "piece",
];

/// The three options of a product and the values each may have.
pub(super) const OPTIONS: [(&str, &[&str]); 3] = [
    ("Color", &["Sand", "Rust", "Olive", "Navy", "Chalk", "Slate"]),
    ("Size", &["XS", "S", "M", "L", "XL"]),
    ("Fit", &["Regular", "Slim", "Loose", "Tall"]),
];

/// Categories: each root has each audience below it, and each of those each edit.
pub(super) const ROOTS: [&str; 6] = ["Shirts", "Trousers", "Shoes", "Outerwear", "Accessories", "Home"];
pub(super) const AUDIENCES: [&str; 4] = ["Men", "Women", "Kids", "Sport"];
pub(super) const EDITS: [&str; 3] = ["New", "Classic", "Outlet"];

/// Hero banners: title and subtitle.
pub(super) const BANNERS: [(&str, &str); 5] = [
    ("The autumn edit", "Wool, and more wool"),
    ("Made to be worn", "Cut for every day"),
    ("Last of the summer", "While it lasts"),
    ("From the archive", "Back for a while"),
    ("New this week", "Fresh from the workshop"),
];

/// Reasons to return: value, label, description.
pub(super) const RETURN_REASONS: [(&str, &str, Option<&str>); 3] = [
    ("damaged", "Damaged", Some("Arrived damaged")),
    ("too_small", "Too small", None),
    ("wrong_item", "Wrong item", Some("Not what was ordered")),
];
