//! What the keys do and the columns mean.

use ratatui::{Frame, layout::Rect, text::Text};

/// The keys first: where there is no room for all, they remain.
const HELP: &str = "\
up down k j  another row
PgUp PgDn    ten rows on; Home, End
Enter        a peer's ports and past
Esc          back; no filter
/            filter by peer, port, in, out
s > <        sort by another column
r            reverse the order
? q          this; quit

ALERT    the worst one raised for it
DIR      in: it calls us, out: we call it
USED     share of its ports that is taken
LEFT     until none is free, by the forecast
CONN/S   connections per second
RETRIES  SYNs retransmitted so far
REFUSED  SYNs TIME_WAIT refused so far
FAILED   attempts of ours that failed
others   sockets in that state
?        not available on this kernel";

/// Draws it.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect) {
    frame.render_widget(Text::raw(HELP), area);
}
