//! CORS: an answer cached for one origin must be right for another and for none.

use endcap::client::Answer;
use http::header::ACCESS_CONTROL_ALLOW_ORIGIN;

use crate::fixture::{Capture, capture};
use crate::stage::{Ask, Stage, assert_recorded, end_to_end, outcome, recorded};

/// The one that the backend allows, another one, and none.
fn askers() -> [&'static Capture; 3] {
    ["origin-allowed", "origin-other", "currency"].map(capture)
}

const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

fn allowed(answer: &Answer) -> Option<&str> {
    answer.headers.get(ACCESS_CONTROL_ALLOW_ORIGIN).map(|origin| origin.to_str().unwrap())
}

#[tokio::test]
async fn with_the_origin_in_the_key_each_gets_the_backends_own_word() {
    for order in ORDERS {
        let stage = Stage::new().await;
        for expected in ["miss", "hit"] {
            for capture in order.map(|at| askers()[at]) {
                let answer = stage.ask(&Ask::of(capture)).await;
                assert_recorded(&answer, capture);
                assert_eq!(outcome(&answer), expected, "{}", capture.name);
            }
        }
        assert_eq!(askers().map(|capture| stage.replay.asked(capture)), [1, 1, 1]);
    }
}

#[tokio::test]
async fn with_a_list_of_origins_all_share_one_answer_and_each_gets_the_right_word() {
    let more = "[cors]\nallow_origins = [\"http://localhost:8000\"]";
    for order in ORDERS {
        let stage = Stage::with(more, &[]).await;
        let mut expected = std::iter::once("miss").chain(std::iter::repeat("hit"));
        for capture in order.into_iter().chain(order).map(|at| askers()[at]) {
            let answer = stage.ask(&Ask::of(capture)).await;
            let mut fields = recorded(capture);
            // All were filled by the one request without an origin.
            fields.insert("date", recorded(askers()[2])["date"].clone());
            assert_eq!((end_to_end(&answer), &answer.body), (fields, &capture.body), "{}", capture.name);
            assert_eq!(outcome(&answer), expected.next().unwrap(), "{}", capture.name);
        }
        assert_eq!(askers().map(|capture| stage.replay.asked(capture)), [0, 0, 1]);
    }
}

#[tokio::test]
async fn a_304_and_a_head_carry_the_askers_word_too() {
    for more in ["", "[cors]\nallow_origins = [\"http://localhost:8000\"]"] {
        let stage = Stage::with(more, &[]).await;
        for capture in askers() {
            let ask = Ask::of(capture);
            let whole = stage.ask(&ask).await;
            let knows = ask.clone().with("if-none-match", whole.field("etag"));
            let head = Ask { method: "HEAD".to_owned(), ..ask };
            let word = recorded(capture).get(ACCESS_CONTROL_ALLOW_ORIGIN).cloned();
            for (ask, status) in [(&knows, 304), (&head, 200)] {
                let answer = stage.ask(ask).await;
                assert_eq!(
                    (answer.status.as_u16(), answer.headers.get(ACCESS_CONTROL_ALLOW_ORIGIN)),
                    (status, word.as_ref())
                );
                assert_eq!((answer.field("vary"), outcome(&answer)), ("Origin", "hit"), "{}", capture.name);
            }
        }
    }
}

#[tokio::test]
async fn a_refresh_after_a_purge_keeps_the_words_apart() {
    for more in ["", "[cors]\nallow_origins = [\"http://localhost:8000\"]"] {
        for whole in [true, false] {
            let stage = Stage::with(more, &[]).await;
            for _ in 0..2 {
                for capture in askers() {
                    let answer = stage.ask(&Ask::of(capture)).await;
                    assert_eq!(allowed(&answer), capture.sent("origin").filter(|_| capture.name == "origin-allowed"));
                    // Each time another one does the refilling.
                    stage.purge(["list:currency"]).await;
                    stage.replay.answer_whole(whole);
                }
            }
            assert_eq!(stage.replay.requests(), 6);
        }
    }
}
