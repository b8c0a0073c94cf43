//! Laws of entity tags and of what is selected by them and by ranges (RFC 9110 §8.8.3, §13, §14).

use super::*;
use crate::policy::conditional::Selected;
use crate::policy::encoding::Coding;
use crate::policy::etag;

const LENGTH: usize = 10;

/// An entity tag, as facts: few letters, so that two of them are often alike; commas, and bytes beyond ASCII.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tag {
    is_weak: bool,
    opaque: Vec<u8>,
}

impl Tag {
    fn print(&self) -> Vec<u8> {
        let mark: &[u8] = if self.is_weak { b"W/" } else { b"" };
        [mark, b"\"", &self.opaque, b"\""].concat()
    }
}

fn tag() -> impl Strategy<Value = Tag> {
    let opaque = proptest::collection::vec(prop::sample::select(b"ab,~W/*\x80\xff".to_vec()), 0..3);
    (any::<bool>(), opaque).prop_map(|(is_weak, opaque)| Tag { is_weak, opaque })
}

fn value(bytes: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(bytes).unwrap()
}

/// What a GET with these fields is sent of a stored answer with this tag.
fn select(own: &Tag, request: &HeaderMap) -> Selected {
    let headers = HeaderMap::from_iter([(header::ETAG, value(&own.print()))]);
    conditional::select(
        request,
        true,
        Stored { status: StatusCode::OK, headers: &headers, length: LENGTH },
        Forms::PLAIN,
    )
}

fn coding() -> impl Strategy<Value = Coding> {
    prop::sample::select(Coding::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// A list is read as it was written, with whatever stands between its members (RFC 9110 §5.6.1, §8.8.3).
    #[test]
    fn printed_tags_are_read(
        tags in proptest::collection::vec(tag(), 0..5),
        between in prop::sample::select(vec![",", ", ", " ,", ",,", " , ,\t"]),
    ) {
        let printed: Vec<_> = tags.iter().map(Tag::print).collect();
        let list = [between.as_bytes(), &printed.join(between.as_bytes()), between.as_bytes()].concat();
        prop_assert_eq!(etag::members(&list).map(<[u8]>::to_vec).collect::<Vec<_>>(), printed);
    }

    /// What is the same by strong comparison is the same by weak comparison, and each is what §8.8.3.2 says.
    #[test]
    fn strong_comparison_implies_weak(own in tag(), sent in tag()) {
        let sends = |name: HeaderName| HeaderMap::from_iter([
            (name, value(&sent.print())), (header::RANGE, value(b"bytes=0-0")),
        ]);
        let is_weakly_same = select(&own, &sends(header::IF_NONE_MATCH)) == Selected::NotModified(None);
        let is_strongly_same = select(&own, &sends(header::IF_RANGE)) == Selected::Part(0..1);
        prop_assert!(is_weakly_same || !is_strongly_same);
        prop_assert_eq!(is_weakly_same, own.opaque == sent.opaque);
        prop_assert_eq!(is_strongly_same, own == sent && !own.is_weak);
    }

    /// `If-None-Match` is true for what it names anywhere in its list, and with `*` for whatever there is (§13.1.2).
    #[test]
    fn a_list_knows_what_it_names(own in tag(), tags in proptest::collection::vec(tag(), 0..4), star in of(0_usize..4)) {
        let mut members: Vec<_> = tags.iter().map(Tag::print).collect();
        if let Some(at) = star {
            members.insert(at.min(members.len()), b"*".to_vec());
        }
        let whole = members.join(&b", "[..]);
        let as_one = HeaderMap::from_iter([(header::IF_NONE_MATCH, value(&whole))]);
        let mut as_lines = HeaderMap::new();
        for line in &members {
            as_lines.append(header::IF_NONE_MATCH, value(line));
        }
        let is_named = star.is_some() || tags.iter().any(|tag| tag.opaque == own.opaque);
        let expected = if is_named { Selected::NotModified(None) } else { Selected::Whole(None) };
        prop_assert_eq!(select(&own, &as_one), expected.clone());
        prop_assert_eq!(select(&own, &as_lines), expected);
    }

    /// A strong tag of a form is that of no other form and of no other body; a weak one is that of all (§8.8.3.3).
    #[test]
    fn each_form_has_its_own_tag(own in tag(), other in tag(), coding in coding(), another in coding()) {
        let form = etag::of_form(&value(&own.print()), coding);
        let is = |of: &Tag, coding| etag::is_of_form(form.as_bytes(), &of.print(), coding);
        prop_assert!(is(&own, Some(coding)));
        prop_assert_eq!(is(&own, None), own.is_weak);
        if !own.is_weak && !other.is_weak {
            prop_assert_eq!(is(&other, Some(another)), own == other && coding == another);
        }
    }

    /// No bytes panic, and none but the stored tag's own, or `*`, are taken for it. A part lies in the body.
    #[test]
    fn whatever_is_asked_is_answered(
        own in tag(), asked in proptest::collection::vec(any::<u8>(), 0..40), range in "(bytes=)?[ -~]{0,24}",
    ) {
        let Ok(asked) = HeaderValue::from_bytes(&asked) else { return Ok(()) };
        for name in [header::IF_NONE_MATCH, header::IF_MATCH, header::IF_RANGE, header::RANGE] {
            let mut request = HeaderMap::from_iter([(header::RANGE, value(range.as_bytes())), (name, asked.clone())]);
            match select(&own, &request) {
                Selected::NotModified(_) => {
                    let printed = Tag { is_weak: false, ..own.clone() }.print();
                    let is_in = asked.as_bytes().windows(printed.len()).any(|bytes| bytes == printed);
                    prop_assert!(is_in || asked.as_bytes().contains(&b'*'));
                }
                Selected::Part(part) => prop_assert!(part.start < part.end && part.end <= LENGTH),
                Selected::Whole(_) | Selected::Unsatisfiable => {}
            }
            for is_safe in [false, true] {
                etag::without_forms(&mut request, is_safe);
            }
        }
    }
}
