//! A login changes prices on public addresses, and nothing in the answer says so.

use crate::fixture::capture;
use crate::stage::{Ask, Stage, assert_recorded, outcome};

const ANONYMOUS: &str = "product-vip-anonymous";
const LOGINS: [(&str, &str); 3] = [
    ("product-vip-bearer", "pass.credentials"),
    ("product-vip-session", "pass.cookie"),
    ("product-vip-bad-bearer", "pass.credentials"),
];

#[test]
fn the_price_of_a_login_is_another_for_the_same_address_and_key() {
    let anonymous = capture(ANONYMOUS);
    for (name, _) in LOGINS {
        let login = capture(name);
        assert_eq!(login.target, anonymous.target);
        assert_eq!(login.sent("x-publishable-api-key"), anonymous.sent("x-publishable-api-key"));
        // An invalid token is ignored.
        assert_eq!(login.body == anonymous.body, name == "product-vip-bad-bearer", "{name}");
    }
}

#[tokio::test]
async fn each_sees_its_own_price_whoever_comes_first() {
    for (login, passed) in LOGINS {
        for login_is_first in [true, false] {
            let stage = Stage::new().await;
            let mut stored = ["miss", "hit", "hit"].iter();
            for is_login in [login_is_first, !login_is_first, true, false, true, false] {
                let name = if is_login { login } else { ANONYMOUS };
                let answer = stage.ask(&Ask::of(capture(name))).await;
                assert_recorded(&answer, capture(name));
                assert_eq!(outcome(&answer), if is_login { passed } else { stored.next().unwrap() }, "{name}");
            }
            assert_eq!((stage.replay.asked(capture(login)), stage.replay.asked(capture(ANONYMOUS))), (3, 1));
        }
    }
}

#[tokio::test]
async fn each_sees_its_own_price_when_all_come_at_once() {
    let stage = Stage::new().await;
    let asks = (0..24).map(|at| capture(if at % 3 == 0 { ANONYMOUS } else { LOGINS[at % 3].0 }));
    let stage = &stage;
    let answers = asks.map(|capture| async move { (capture, stage.ask(&Ask::of(capture)).await) });
    for (capture, answer) in futures_util::future::join_all(answers).await {
        assert_recorded(&answer, capture);
    }
    assert_eq!(stage.replay.asked(capture(ANONYMOUS)), 1);
}

#[tokio::test]
async fn a_cookie_that_names_nobody_changes_nothing() {
    let stage = Stage::new().await;
    let anonymous = Ask::of(capture(ANONYMOUS));
    let visitor = |cookies| anonymous.clone().with("cookie", cookies);
    for (ask, expected) in [
        (visitor("_medusa_cache_id=1f0e; _ga=GA1.1.7"), "miss"),
        (visitor("_medusa_cache_id=77ab"), "hit"),
        (anonymous.clone(), "hit"),
        // It says which cart to show, so it may say more one day.
        (visitor("_medusa_cache_id=1; _medusa_jwt=x"), "pass.cookie"),
    ] {
        // What passes takes its cookies along, and no such request was recorded.
        if expected == "pass.cookie" {
            assert_eq!(crate::keys::plan(&crate::stage::medusa(), &ask), "pass cookie");
            continue;
        }
        let answer = stage.ask(&ask).await;
        assert_recorded(&answer, capture(ANONYMOUS));
        assert_eq!(outcome(&answer), expected);
    }
    assert_eq!(stage.replay.requests(), 1);
}
