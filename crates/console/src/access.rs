//! Rights of callers: their role, and the sites that they may see.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The most sites in one scope: no installation that limits people to sites has more of them.
pub const SCOPE_SITES: usize = 1000;

/// The role of an account or a token. Each role includes those before it.
#[derive(
    Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Also pauses, retries, traces and runs segments.
    Editor,
    /// Also replays, erases and exports people, and manages accounts.
    Admin,
}

impl Role {
    /// All roles, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Editor, Self::Admin];

    /// The name in the API and in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Editor => "editor",
            Self::Admin => "admin",
        }
    }

    /// The role with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// The sites that a caller may see: all, or the named ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteScope(Option<Arc<[String]>>);

impl SiteScope {
    /// All sites, also later ones.
    pub const fn all() -> Self {
        Self(None)
    }

    /// The named sites; `None` is all.
    pub fn of(sites: Option<Vec<String>>) -> Self {
        Self(sites.map(Arc::from))
    }

    /// Returns true if the scope includes the site.
    pub fn may_see(&self, site: &str) -> bool {
        self.0.as_deref().is_none_or(|sites| sites.iter().any(|own| own == site))
    }

    /// Returns true if the scope includes every site.
    pub fn is_all(&self) -> bool {
        self.0.is_none()
    }

    /// The names; `None` for all sites.
    pub fn names(&self) -> Option<&[String]> {
        self.0.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_include_those_before_them() {
        assert!(Role::Viewer < Role::Editor && Role::Editor < Role::Admin);
        for role in Role::ALL {
            assert_eq!(Role::from_name(role.name()), Some(role));
        }
        assert_eq!(Role::from_name("root"), None);
    }

    #[test]
    fn scope_without_sites_sees_nothing_and_without_a_limit_everything() {
        assert!(SiteScope::all().may_see("shop"));
        let own = SiteScope::of(Some(vec!["shop".to_owned()]));
        assert!(own.may_see("shop") && !own.may_see("Shop") && !own.may_see("other"));
        assert!(!SiteScope::of(Some(Vec::new())).may_see("shop"));
        assert!(SiteScope::of(None).is_all());
    }
}
