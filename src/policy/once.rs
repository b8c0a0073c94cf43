//! Query parameters that the origin must be given once, on every route and to every method.
//!
//! A key looks at a cached route's own parameters. What passes goes to the origin as it was sent, and some
//! origins never answer when a parameter that they take for a text is a list or a tree: such a request holds a
//! connection until it is timed out.
//!
//! `qs`, as Express uses it, makes a list or a tree of far more than `a=1&a=2`: of `a[]=1`, `a[x]=1`, `[a][]=1`
//! and, where dots nest, `a.x=1`; escaped or not, and with whatever stands behind the last bracket ignored. So
//! every name whose first piece between brackets and dots is the parameter's counts, and only the plain
//! spelling, once, is let by. That refuses a few spellings which would do no harm, and which nobody sends.

use percent_encoding::percent_decode_str;

/// Whether a query gives one of `names` more than once, or in any but its plain spelling.
pub fn is_repeated(query: &str, names: &[String]) -> bool {
    names.iter().any(|name| {
        let mut plain = 0;
        query.split('&').any(|pair| {
            // A broken escape stays as it is and odd bytes are replaced: neither is part of a name.
            let sent = percent_decode_str(pair.split('=').next().unwrap_or("")).decode_utf8_lossy();
            if sent == *name {
                plain += 1;
                plain > 1
            } else {
                sent.split(['[', ']', '.']).find(|piece| !piece.is_empty()) == Some(name)
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, expected: bool) {
        let names = ["locale".to_owned(), "q".to_owned()];
        assert_eq!(is_repeated(query, &names), expected, "{query}");
    }

    #[test]
    fn once_and_plain_is_let_by() {
        for query in [
            "",
            "&&",
            "locale=de",
            "q&locale",
            "l%6Fcale=de&q=locale&x=locale%5B%5D",
            "locale=a,b",
            "locale=a]=b",
            "Locale=a&locale=b",
            "locales[]=a&xlocale=b&x[locale]=c&x.locale=d",
            "l%256Fcale=a&locale=b",
            "l%6Fcale%zz=a&locale=b",
            "%20locale=a&locale=b",
            "locale;locale=b",
        ] {
            check(query, false);
        }
    }

    #[test]
    fn whatever_the_backend_may_read_as_several_values_is_found() {
        for query in [
            "locale=a&locale=b",
            "locale&locale",
            "locale=a&x=1&l%6Fcale=b",
            "q=1&%71=2",
            "locale[]=a",
            "locale[0]=a",
            "locale[a=b]=c",
            "locale%5B%5D=a",
            "locale%5b0%5D=a",
            "loc%61le[x][y]=a",
            "locale[]behind=a",
            "locale[%ff]=a",
            "locale%5B%ff%5D=a",
            "locale[%zz]=a",
            "[locale]=a&locale=b",
            "[locale][]=a",
            "%5Blocale%5D%5B%5D=a",
            "locale.x=a",
            "locale%2Ex=a",
            ".locale=a&locale=b",
        ] {
            check(query, true);
        }
    }
}
