//! Pictures of figures, as SVG without scripts, styles or links, so that they can stand in any page. Their colours can be told apart on
//! a light and on a dark ground.

mod account;
mod lines;
mod ports;

pub use self::{
    account::account,
    lines::{COLOURS, INK, Line, lines},
    ports::ports,
};
