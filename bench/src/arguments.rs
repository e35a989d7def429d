//! What both programs are told: which proxy.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use crate::proxy::Program;

/// The proxy under test.
#[derive(Clone, Debug, Args)]
pub struct ProxyArguments {
    /// The program under test [default: the hpc-proxy beside this program].
    #[arg(long, env = "HPC_PROXY_BIN", value_name = "PATH")]
    proxy: Option<PathBuf>,
    /// A further argument for it, such as `--proxy-arg=--verbose`; may be repeated.
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    proxy_arg: Vec<String>,
}

impl ProxyArguments {
    /// The program that they name.
    ///
    /// # Errors
    /// There is none.
    pub fn program(&self) -> Result<Program> {
        let path = match &self.proxy {
            Some(path) => path.clone(),
            None => {
                let here = std::env::current_exe().context("where this program is")?;
                here.with_file_name("hpc-proxy")
            }
        };
        Program::at(&path, &self.proxy_arg)
    }
}
