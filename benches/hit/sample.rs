//! What is asked for and what must come back: a public list of the shop, made to measure.

/// The address of the list, one size a resource.
pub(crate) const PATH: &str = "/store/bench/";

/// What the storefront sends with each request.
const HEAD: &str = "Accept: application/json\r\n\
    User-Agent: storefront/2.4 (node)\r\n\
    x-publishable-api-key: pk_5ab1f3c07e6d4c2f9a8b7d6e5f40312c9be8a7d6c5b4a39281706f5e4d3c2b1a\r\n";

/// A sentence to fill descriptions with.
const PROSE: &str = "Reimagine the feeling of a classic piece of clothing, made of organic cotton. ";

/// The request for the list of `size` bytes at `host`, in one encoding.
pub(crate) fn request(host: &str, size: usize, encoding: &str) -> Vec<u8> {
    let target = format!("{PATH}{size}?region_id=reg_01JAV7Z9QK3M5T8W2XEUROPE00");
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{HEAD}Accept-Encoding: {encoding}\r\n\r\n").into_bytes()
}

/// A list of products in exactly `size` bytes of JSON: up to twelve of them, as on a page of the
/// shop, with descriptions as long as it takes.
///
/// # Panics
/// When `size` is too small to hold one product.
pub(crate) fn body(size: usize) -> Vec<u8> {
    let products = (size / 1200).clamp(1, 12);
    let bare = list(products, &vec![0; products]).len();
    let spare = size.checked_sub(bare).expect("the size holds one product");
    let mut lengths = vec![spare / products; products];
    lengths[0] += spare % products;
    let body = list(products, &lengths);
    assert_eq!(body.len(), size);
    body.into_bytes()
}

fn list(products: usize, lengths: &[usize]) -> String {
    let rows: Vec<String> = lengths.iter().enumerate().map(|(row, &length)| product(row, length)).collect();
    format!(r#"{{"products":[{}],"count":{products},"offset":0,"limit":12}}"#, rows.join(","))
}

fn product(row: usize, description: usize) -> String {
    let description: String = PROSE.chars().cycle().take(description).collect();
    format!(
        concat!(
            r#"{{"id":"prod_01JAV7ZC4R8N5X2KQW7Y3H{row:04}","title":"Shirt {row}","handle":"shirt-{row}","#,
            r#""collection_id":"pcol_01JAV7ZB0M6T9E4SUMMER20{row:02}","thumbnail":null,"variants":["#,
            r#"{{"id":"variant_01JAV7ZD1P3Q5R7S9TSIZEM{row:04}","title":"M","calculated_price":"#,
            r#"{{"calculated_amount":1950,"currency_code":"eur","is_calculated_price_tax_inclusive":true}}}}],"#,
            r#""description":"{description}"}}"#
        ),
        row = row,
        description = description,
    )
}

/// The headers that describe the list, without the one that gives its length: the same from every
/// contender that we write ourselves, and from the origin.
pub(crate) fn headers(size: usize) -> [(&'static str, String); 3] {
    [
        ("content-type", "application/json; charset=utf-8".to_owned()),
        ("etag", format!("W/\"{size:x}-Zm9yIHRoZSBlbmQgY2Fw\"")),
        ("vary", "Origin".to_owned()),
    ]
}
