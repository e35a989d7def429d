//! The main path, and much weather, told as stories about people and their dev servers.
//!
//! Nothing of ours is linked here: the binaries run as processes, and they are met the way people
//! meet them, through `ssh`, a browser and VS Code's terminal. A bug shared by both ends can
//! therefore not hide. `tests/stories` holds the stories; this library is their stage.

pub mod binaries;
pub mod browser;
pub mod chaos;
pub mod child;
pub mod chromium;
pub mod cluster;
pub mod compat;
pub mod devserver;
pub mod devtools;
pub mod engine;
pub mod eventually;
pub mod evidence;
pub mod faults;
pub mod firefox;
pub mod judge;
pub mod line;
pub mod manager;
pub mod owner;
pub mod ports;
pub mod processes;
pub mod socketio;
pub mod ssh;
pub mod story;
pub mod terminal;
pub mod user;
pub mod websocket;
pub mod wire;
pub mod world;
