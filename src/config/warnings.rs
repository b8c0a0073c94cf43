//! What a configuration may say, and seldom means.

use super::{Config, Secret, preset};
use crate::policy::route::{Policy, Rule};

impl Config {
    /// What is allowed but seldom meant.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(preset) = &self.preset
            && self.hooks.is_empty()
        {
            warnings.push(format!(
                "the preset {preset:?} maps events to purges, but without webhook_secret none can arrive: \
                 answers change only when their TTL ends"
            ));
        }
        if !self.ops.address.ip().is_loopback() && self.ops.token.is_none() {
            warnings.push(format!(
                "ops.address {} is open to the network without ops.token: metrics and status are readable by \
                 whoever reaches it, and POST /purge is closed",
                self.ops.address
            ));
        }
        match (&self.redis, &self.purge.journal) {
            (Some(_), None) => warnings.push(
                "purge.journal is not set: while Redis cannot be reached, webhooks get 503 and must be sent again"
                    .to_owned(),
            ),
            (None, Some(_)) => warnings.push("purge.journal is of no use without [redis]".to_owned()),
            (Some(_), Some(_)) | (None, None) => {}
        }
        let short = |secret: &Secret| secret.expose().len() < 16;
        if self.ops.token.as_ref().is_some_and(short) {
            warnings.push("ops.token has less than 16 characters: it can be guessed".to_owned());
        }
        if self.preset.as_deref() == Some("medusa") && self.listen.head_bytes_max > preset::NODE_HEAD_BYTES_MAX {
            warnings.push(
                "listen.head_bytes_max is above 16KiB, where Node answers 431 itself: larger heads pass here and \
                 fail there"
                    .to_owned(),
            );
        }
        if self.listen.trusted_proxies.iter().any(|network| network.prefix_len() == 0) {
            warnings.push(
                "listen.trusted_proxies trusts every address: anyone can choose the client address that is seen"
                    .to_owned(),
            );
        }
        warnings.extend(self.routes.rules().iter().filter_map(|rule| unsearchable(rule)));
        warnings
    }
}

/// A route that looks for ids in answers which need not be JSON.
fn unsearchable(rule: &Rule) -> Option<String> {
    let searches = !rule.tag_prefixes.is_empty() || !rule.tag_paths.is_empty();
    let media = rule.content_type.as_deref().unwrap_or("*");
    let is_json = media.ends_with("/json") || media.ends_with("+json");
    (searches && !is_json && rule.policy != Policy::Pass).then(|| {
        format!(
            "route.{} has content_type = {media:?} and looks for ids by tag_prefixes or tag_paths: what is not JSON \
             cannot be searched, no purge would find it, and so it is not stored. Where it shows no ids, write \
             tag_prefixes = [] there",
            rule.name
        )
    })
}
