//! What the profiles do for one person: show and erase.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Identity, ProfileError, Profiles};
use crate::event::Object;
use crate::journal::{NameKey, SiteId};

/// Everything that is known of one person.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// The id the site knows the person by.
    pub user_id: Option<String>,
    /// Every name of theirs.
    pub identities: Vec<Identity>,
    /// What is known of them.
    pub traits: Object,
}

impl Subject {
    /// Every name that events of this person may carry, the e-mail address among the traits included.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let email = self.traits.get("email").and_then(serde_json::Value::as_str);
        let identities = self.identities.iter().map(|identity| identity.value.as_str());
        identities.chain(self.user_id.as_deref()).chain(email)
    }
}

impl Profiles {
    /// What is known of whoever has this name: an identity of any kind, or an e-mail address.
    pub async fn subjects(&self, site: SiteId, name: &str) -> Result<Vec<Subject>, ProfileError> {
        self.store.subjects(site, name.to_owned()).await
    }

    /// Erases the profiles that one of these names is an identity of, from memory as well. Returns
    /// how many.
    pub async fn erase(
        &self,
        site: SiteId,
        names: Arc<HashSet<NameKey>>,
    ) -> Result<u64, ProfileError> {
        let changes = self.store.erase(site, names).await?;
        let erased = changes.profiles.len();
        self.publish(site, changes);
        Ok(erased as u64)
    }
}
