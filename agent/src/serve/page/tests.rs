use super::*;

#[test]
fn times_read_well() {
    assert_eq!([11.4, 300.0, 90_000.0, 1e6].map(roughly), ["11 s", "5 min", "25 h", "12 days"]);
}

#[test]
fn text_from_outside_stays_text() {
    let page = frame("<i>", "a & b", &html! { (visible("<script>")) }).into_string();
    assert!(
        page.contains("<b>&lt;i&gt;</b>") && page.contains("a &amp; b") && page.contains("&lt;script&gt;"),
        "{page}"
    );
    assert!(!page.contains("<script"));
}
