//! The two tags that a document gets.

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use sha2::{Digest, Sha256};

use super::imports;
use crate::{
    answer::escape,
    hex,
    prefix::{Prefixer, Siblings},
};

/// The script that does in the running page what is done here in markup.
pub const SHIM: &str = include_str!("../shim/shim.js");
/// What a dev server's own paths never begin with: pages of the proxy below a prefix.
pub(crate) const RESERVED: &str = "/.hpc-proxy/";

/// Named by its content, so that a browser may keep it for ever.
static SHIM_NAME: LazyLock<String> = LazyLock::new(|| {
    let digest = Sha256::digest(SHIM);
    format!("shim-{}.js", hex::encode(&digest[..8]))
});

/// The name of the shim's file.
pub fn shim_name() -> &'static str {
    &SHIM_NAME
}

/// The tags as they are put into one document.
#[derive(Clone, Debug)]
pub struct Tags {
    shim: String,
    import_map: String,
}

impl Tags {
    /// With the `nonce` that the document's policy asks for, if it does.
    pub fn new(prefixer: &Prefixer, nonce: Option<&str>) -> Self {
        let prefix = escape(&prefixer.prefix);
        let nonce = nonce.map_or_else(String::new, |nonce| format!(" nonce=\"{}\"", escape(nonce)));
        let siblings = match &prefixer.siblings {
            Siblings::Path(path) => format!("{path}{{}}"),
            Siblings::Host { before, after } => format!("//{before}{{}}{after}"),
        };
        let port = prefixer
            .port
            .map_or_else(String::new, |port| format!(" data-port=\"{port}\""));
        let shim = format!(
            "<script src=\"{prefix}{RESERVED}{}\" data-prefix=\"{prefix}\" data-siblings=\"{}\"{port}{nonce}></script>",
            shim_name(),
            escape(&siblings),
        );
        // A server with a name of its own has its own root.
        let import_map = if prefixer.prefix.is_empty() {
            String::new()
        } else {
            let map = imports::own(&prefixer.prefix);
            format!("<script type=\"importmap\"{nonce}>{map}</script>")
        };
        Self { shim, import_map }
    }

    /// With the doors of the shim open, through which routers in the page look.
    pub fn with_doors(mut self) -> Self {
        self.shim = self
            .shim
            .replacen(" data-prefix=", " data-doors data-prefix=", 1);
        self
    }

    /// None: where only URLs are moved.
    pub fn none() -> Self {
        Self {
            shim: String::new(),
            import_map: String::new(),
        }
    }

    #[cfg(test)]
    pub(super) fn spelt(shim: &str, import_map: &str) -> Self {
        Self {
            shim: shim.to_owned(),
            import_map: import_map.to_owned(),
        }
    }

    pub(super) fn shim(&self) -> &str {
        &self.shim
    }

    pub(super) fn import_map(&self) -> &str {
        &self.import_map
    }
}

/// The hash by which a policy allows the import map (CSP level 3 section 2.3.1), in quotes.
pub(crate) fn map_hash(prefix: &str) -> String {
    let digest = Sha256::digest(imports::own(prefix));
    format!("'sha256-{}'", BASE64.encode(digest))
}
