use lol_html::{
    DocumentContentHandlers, HtmlRewriter, Settings as Other, element, html_content::Element,
};
use proptest::prelude::*;

use super::*;

/// `S` and `M` stand for the two tags.
fn tags() -> Tags {
    Tags::spelt("[S]", "[M]")
}

fn rewritten(text: &[u8]) -> Vec<u8> {
    Markup::new(Prefixer::example(), "/a/b", tags()).whole(text)
}

/// A page that has both tags already in front.
fn moved(text: &str) -> String {
    let page = Markup::new(Prefixer::example(), "/a/b", Tags::none());
    String::from_utf8(page.whole(text.as_bytes())).unwrap()
}

fn page(text: &str) -> String {
    String::from_utf8(rewritten(text.as_bytes())).unwrap()
}

#[test]
fn a_document_in_an_attribute_gets_both_tags_and_is_escaped_again() {
    let page = |text: &str| {
        let tags = Tags::spelt("<script src=\"s\"></script>", "[M]");
        let page = Markup::new(Prefixer::example(), "/a/b", tags).whole(text.as_bytes());
        let page = String::from_utf8(page).unwrap();
        page.split_once("<iframe ").unwrap().1.to_owned()
    };
    for (before, after) in [
        (
            "<head><iframe srcdoc=\"<a href='/x'>&amp;amp;\">",
            "srcdoc=\"&lt;script src=&#34;s&#34;>&lt;/script>&lt;a href='/port/5173/x'>&amp;amp;[M]\">[M]",
        ),
        (
            "<head><iframe srcdoc=\"<iframe srcdoc='<img src=&amp;quot;/x&amp;quot;>'>\">",
            "srcdoc=\"&lt;script src=&#34;s&#34;>&lt;/script>&lt;iframe srcdoc='\
             &amp;lt;script src=&#34;s&#34;>&amp;lt;/script>&amp;lt;img src=&#34;/port/5173/x&#34;>[M]'>[M]\">[M]",
        ),
    ] {
        assert_eq!(page(before), after, "{before}");
    }
}

// Behaviour 132: no head, a head in a comment or a script, none at all.
#[test]
fn the_shim_stands_where_a_browser_opens_the_head() {
    for (before, after) in [
        (
            "<!doctype html><html><head><title>x</title>",
            "<!doctype html><html><head>[S]<title>x</title>[M]",
        ),
        (
            "<HTML>\n<HEAD lang=x>\n<p>",
            "<HTML>\n<HEAD lang=x>[S]\n<p>[M]",
        ),
        ("<!doctype html>\n<p>x", "<!doctype html>\n[S]<p>x[M]"),
        (
            "<!-- <head> --><html><!--<head>--><body>",
            "<!-- <head> --><html><!--<head>-->[S]<body>[M]",
        ),
        (
            "<script>'<head>'</script><head>",
            "[S]<script>'<head>'</script><head>[M]",
        ),
        (" x<head>", " [S]x<head>[M]"),
        ("<html>x", "<html>[S]x[M]"),
        ("</p></html>", "</p>[S][M]</html>"),
        (
            "<?xml version='1.0'?><!DOCTYPE a \"<head>\"><html/><head/>y",
            "<?xml version='1.0'?><!DOCTYPE a \"<head>[S]\"><html/><head/>y[M]",
        ),
        ("<!doctype html>", "<!doctype html>[S][M]"),
        ("", ""),
        ("\u{feff}<head>", "\u{feff}<head>[S][M]"),
        ("<head", "<head[S][M]"),
    ] {
        assert_eq!(page(before), after, "{before}");
    }
}

#[test]
fn urls_are_moved_wherever_markup_has_them() {
    for (before, after) in [
        ("<a href=/x>", "<a href=/port/5173/x>"),
        (
            "<A HREF = '/x' href=\"/y\">",
            "<A HREF = '/port/5173/x' href=\"/port/5173/y\">",
        ),
        ("<a href=/port/5173/x>", "<a href=/port/5173/x>"),
        (
            "<a href=x><a href=#x><a href=?x><a href>",
            "<a href=x><a href=#x><a href=?x><a href>",
        ),
        (
            "<a href='//cdn.example.org/x'>",
            "<a href='//cdn.example.org/x'>",
        ),
        ("<a href='javascript:/x'>", "<a href='javascript:/x'>"),
        ("<a href=http://localhost:5173/x>", "<a href=/port/5173/x>"),
        (
            "<a href=http://127.0.0.1:8000/x>",
            "<a href=//hpc.example.org/port/8000/x>",
        ),
        (
            "<a href='../../x?a=1&amp;b=2&c=3'>",
            "<a href='/port/5173/x?a=1&amp;b=2&c=3'>",
        ),
        (
            "<a href='&#47;x&amp;y'>",
            "<a href='/port/5173&#47;x&amp;y'>",
        ),
        (
            "<img src=/x srcset='/x 1x, /y 2x'>",
            "<img src=/port/5173/x srcset='/port/5173/x 1x, /port/5173/y 2x'>",
        ),
        (
            "<link rel=preload imagesrcset=\"/x 1x\">",
            "<link rel=preload imagesrcset=\"/port/5173/x 1x\">",
        ),
        (
            "<form action=/x><button formaction=/y>",
            "<form action=/port/5173/x><button formaction=/port/5173/y>",
        ),
        (
            "<object data=/x><video poster=/y src=/z>",
            "<object data=/port/5173/x><video poster=/port/5173/y src=/port/5173/z>",
        ),
        (
            "<svg><use xlink:href=/x /><image href='/y'/></svg><use href=/z>",
            "<svg><use xlink:href=/port/5173/x /><image href='/port/5173/y'/></svg><use href=/z>",
        ),
        (
            "<p style=\"b:url(/x)\">",
            "<p style=\"b:url(/port/5173/x)\">",
        ),
        (
            "<p style='b:url(&quot;/x&quot;)'>",
            "<p style='b:url(\"/port/5173/x&quot;)'>",
        ),
        (
            "<style>a{b:url(/x)}</style><style>@import '/y'",
            "<style>a{b:url(/port/5173/x)}</style><style>@import '/port/5173/y'",
        ),
        (
            "<svg><style>a{b:url(/x)}</style><style/><a href=/y>",
            "<svg><style>a{b:url(/port/5173/x)}</style><style/><a href=/port/5173/y>",
        ),
        (
            "<meta http-equiv=refresh content='0; url=/x'>",
            "<meta http-equiv=refresh content='0; url=/port/5173/x'>",
        ),
        (
            "<meta content=\"1;URL='/x'\" http-equiv=Refresh>",
            "<meta content=\"1;URL='/port/5173/x'\" http-equiv=Refresh>",
        ),
        (
            "<meta name=x content='0; url=/x'>",
            "<meta name=x content='0; url=/x'>",
        ),
        (
            "<a ping='/x https://example.org/ /y'>",
            "<a ping='/port/5173/x https://example.org/ /port/5173/y'>",
        ),
        (
            "<base href=/app/><a href=../../x>",
            "<base href=/port/5173/app/><a href=/port/5173/x>",
        ),
        (
            "<base href=https://cdn.example.org/><a href=/x>",
            "<base href=https://cdn.example.org/><a href=/x>",
        ),
        (
            "<iframe srcdoc=\"&lt;a href='/x'&gt;\">",
            "<iframe srcdoc=\"&lt;a href='/port/5173/x'&gt;\">",
        ),
        (
            "<link rel=stylesheet href=/x integrity=sha256-x crossorigin>",
            "<link rel=stylesheet href=/port/5173/x  crossorigin>",
        ),
        (
            "<link rel=stylesheet href=https://cdn.example.org/x integrity=sha256-x>",
            "<link rel=stylesheet href=https://cdn.example.org/x integrity=sha256-x>",
        ),
        (
            "<script src=/x integrity=sha256-x></script>",
            "<script src=/port/5173/x integrity=sha256-x></script>",
        ),
        (
            "<custom-link href=/x data-src=/y>",
            "<custom-link href=/x data-src=/y>",
        ),
        (
            "<meta http-equiv=Content-Security-Policy content=\"connect-src ws://localhost:5173\">",
            "<meta http-equiv=Content-Security-Policy content=\"connect-src 'self'\">",
        ),
    ] {
        assert_eq!(moved(before), after, "{before}");
    }
}

// Behaviour 132: inline scripts, and all else that only looks like markup, is not touched.
#[test]
fn what_is_text_to_a_browser_stays() {
    for text in [
        "<script>let a = '<a href=\"/x\">';</script>",
        "<script><!-- <script> </script> <a href=/x> --></script>",
        "<script><!--<script></script><a href=/x></script>",
        "<textarea><a href=/x></textarea>",
        "<title><a href=/x></title>",
        "<noscript><img src=/x></noscript>",
        "<!-- <a href=/x> --!><!--><!---->",
        "<!doctype <a><? <a href=/x?>",
        "</ <a href=/x>",
        "<svg><![CDATA[<a href=/x>]]></svg>",
        "<plaintext></plaintext><a href=/x>",
        "a < b, <3 <",
        "<a href='/x",
        "<script>",
        "<style>a{b:c}",
    ] {
        assert_eq!(moved(text), text);
    }
    assert_eq!(moved("<![CDATA[<a href=/x>]]>"), "<![CDATA[<a href=/x>]]>");
    assert_eq!(
        moved("<![CDATA[>]]><a href=/x>"),
        "<![CDATA[>]]><a href=/port/5173/x>"
    );
    let after = "<a href=/port/5173/x>";
    for before in [
        "<script>x</scripts></script>",
        "<script><!-- --><script></script>",
        "<script><!--<script--></script>",
        "<script><!--<script >--></script>",
        "<svg><title><p></title></svg>",
        "<svg><title/><style/><script/></svg>",
        "<math><mi><style></style></mi><title/></math>",
        "<title>x</title x='>'>",
        "<!--->",
        "<!-->",
    ] {
        assert_eq!(
            moved(&format!("{before}<a href=/x>")),
            format!("{before}{after}")
        );
    }
}

// Where a browser knows but one import map, it is the page's own with ours in it.
#[test]
fn the_import_map_comes_before_the_first_that_may_need_it() {
    for (before, after) in [
        (
            "<script type=module src=/x></script>",
            "[S][M]<script type=module src=/port/5173/x></script>",
        ),
        (
            "<link rel='x modulepreload' href=/x>",
            "[S][M]<link rel='x modulepreload' href=/port/5173/x>",
        ),
        (
            "<script src=/x></script>",
            "[S][M]<script src=/port/5173/x></script>",
        ),
        (
            "<script>import('/x')</script>",
            "[S][M]<script>import('/x')</script>",
        ),
        (
            "<script src=https://cdn.example.org/x></script><script>a=1</script><script type=text/x>import</script><body>",
            "[S]<script src=https://cdn.example.org/x></script><script>a=1</script><script type=text/x>import</script><body>[M]",
        ),
        (
            "<script>a=1</script><p></body>",
            "[S]<script>a=1</script><p>[M]</body>",
        ),
        (
            "<script>a=1</script><script type=importmap>{\"imports\":{\"a\":\"/a.js\"}}</script><script type=module>",
            "[S]<script>a=1</script><script type=importmap>{\"imports\":{\"/\":\"/port/5173/\",\"/port/5173/\":\"/port/5173/\",\"a\":\"/port/5173/a.js\"}}</script><script type=module>",
        ),
        (
            "<script src=/x></script><script type=importmap>{\"imports\":{\"a\":\"/a.js\"}}</script>",
            "[S]<script src=/port/5173/x></script><script type=importmap>{\"imports\":{\"/\":\"/port/5173/\",\"/port/5173/\":\"/port/5173/\",\"a\":\"/port/5173/a.js\"}}</script>",
        ),
        (
            "<script src=/x></script> <title>importmap</title><link href=/y><script>a=1</script></head><script type=importmap>{\"imports\":{}}</script>",
            "[S][M]<script src=/port/5173/x></script> <title>importmap</title><link href=/port/5173/y><script>a=1</script></head><script type=importmap>{\"imports\":{}}</script>",
        ),
        (
            "<script src=/x></script><script>import('/y')</script><script type=importmap>{\"imports\":{}}</script>",
            "[S][M]<script src=/port/5173/x></script><script>import('/y')</script><script type=importmap>{\"imports\":{}}</script>",
        ),
        (
            "<script src=/x></script><script type=module></script>",
            "[S][M]<script src=/port/5173/x></script><script type=module></script>",
        ),
        (
            "<script src=/x></script>text<script type=importmap>{\"imports\":{}}</script>",
            "[S][M]<script src=/port/5173/x></script>text<script type=importmap>{\"imports\":{}}</script>",
        ),
        (
            "<script type=importmap>{</script>",
            "[S]<script type=importmap>{</script>[M]",
        ),
        (
            "<meta http-equiv=content-security-policy content=\"script-src 'self'\">",
            "[S][M]<meta http-equiv=content-security-policy content=\"script-src 'self'\">",
        ),
    ] {
        assert_eq!(page(before), after, "{before}");
    }
    let long = format!("<script>{}</script>", " ".repeat(LONGEST_SCRIPT_BYTES + 1));
    assert_eq!(page(&long), format!("[S][M]{long}"));
    let far = format!(
        "<script src=x></script><!--{long}--><script type=importmap>{{\"imports\":{{}}}}</script>"
    );
    assert_eq!(page(&far), format!("[S][M]{far}"));
}

// Behaviour 132: other charsets than UTF-8.
#[test]
fn bytes_of_any_charset_pass_as_they_are() {
    assert_eq!(
        rewritten(b"<head>\xe4<a href='/\xe4'>\xff"),
        b"<head>[S]\xe4<a href='/port/5173/\xe4'>\xff[M]"
    );
    for text in [
        &b"\xff\xfe<\0a\0 \0h\0r\0e\0f\0=\0/\0x\0>\0"[..],
        b"\xfe\xff\0<\0a",
    ] {
        assert_eq!(rewritten(text), text);
    }
}

#[test]
fn xml_has_no_raw_text() {
    let page = Markup::xml(Prefixer::example(), "/", tags());
    let text = b"<html><head><title/><script src='/x'/><style>a{b:url(/y)}</style></head><body><![CDATA[<a href='/z'>]]><a href='/z'/></body></html>";
    let after = "<html><head>[S]<title/>[M]<script src='/port/5173/x'/><style>a{b:url(/port/5173/y)}</style></head><body><![CDATA[<a href='/z'>]]><a href='/port/5173/z'/></body></html>";
    assert_eq!(String::from_utf8(page.whole(text)).unwrap(), after);
}

#[test]
fn a_tag_without_end_is_not_kept() {
    let mut page = Markup::new(Prefixer::example(), "/", Tags::none());
    let mut out = Vec::new();
    page.feed(b"<img src='data:", &mut out);
    for _ in 0..400 {
        page.feed(&[b'x'; 1000], &mut out);
    }
    assert!(
        page.kept.len() < 1000 && out.len() > 390_000,
        "{} {}",
        page.kept.len(),
        out.len()
    );
    page.feed(b"> ' a=\">\" b = '>' c=x/y><a href=/x>", &mut out);
    page.end(&mut out);
    assert!(out.ends_with(b"c=x/y><a href=/port/5173/x>"));
}

#[test]
fn an_end_tag_without_end_is_not_kept_either() {
    for lead in ["</a ", "</a", "</title ", "</"] {
        let mut text = format!("<p>{lead}").into_bytes();
        text.resize(LONGEST_TAG_BYTES + 1000, b'x');
        text.extend_from_slice(b"><a href=/x>");
        let after = moved(std::str::from_utf8(&text).unwrap());
        assert!(after.ends_with("x><a href=/port/5173/x>"), "{lead}");
    }
}

/// Words of which markup is made that a tokenizer may stumble over.
const WORDS: &[&str] = &[
    "<",
    ">",
    "</",
    "/>",
    "<!--",
    "-->",
    "--!>",
    "-",
    "!",
    "<!",
    "<?",
    "<![CDATA[",
    "]]>",
    "=",
    "\"",
    "'",
    "/",
    " ",
    "\n",
    "&amp;",
    "&#47;",
    "<script>",
    "</script>",
    "<script",
    "<style>",
    "</style>",
    "<title>",
    "</title>",
    "<textarea>",
    "</textarea>",
    "<svg>",
    "</svg>",
    "<math>",
    "</math>",
    "<mi>",
    "</mi>",
    "<foreignObject>",
    "</foreignObject>",
    "<p>",
    "<head>",
    "<html>",
    "<body>",
    "</body>",
    "<a href=",
    "<img src=",
    "<base href=",
    "href=",
    "/x",
    "/port/5173/x",
    "../../../x",
    "http://localhost:8000/x",
    "x",
    "url(/x)",
    "<link rel=modulepreload ",
    "<script type=importmap>",
    "<script src=\"/x\"></script>",
    "{\"imports\":{\"a\":\"/b\"}}",
    "import",
    "<noscript>",
    "</noscript>",
    "<plaintext>",
    "<td background=\"/x\" class=\"y\">",
    "<li class=\"",
    "<a href=\"",
    "<img alt=\"x\" src=\"/x\" srcset=\"/x 1x\">",
    "\">",
    "\" style=\"b:url(/x)\">",
    "\" data-x=\"<p>\">",
    "</li>",
    "<meta http-equiv=refresh content='0;url=/x'>",
    "<p style='b:url(/x)'>",
    "<iframe srcdoc=\"",
    "\u{e4}",
    "\u{feff}",
];

fn markup() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(WORDS), 0..40)
        .prop_map(|words| words.concat().into_bytes())
}

/// The tags that another reader of HTML finds, with their attributes.
fn tags_of(text: &[u8]) -> Option<Vec<String>> {
    let found = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let note = std::rc::Rc::clone(&found);
    let settings = Other::new()
        .append_element_content_handler(element!("*", move |element: &mut Element<'_, '_>| {
            let attributes: Vec<_> = element
                .attributes()
                .iter()
                .map(|attribute| format!("{}={}", attribute.name(), attribute.value()))
                .collect();
            note.borrow_mut()
                .push(format!("{} {}", element.tag_name(), attributes.join(" ")));
            Ok(())
        }))
        .append_document_content_handler(DocumentContentHandlers::default());
    let mut other = HtmlRewriter::new(settings, |_: &[u8]| ());
    // It gives some constructs up.
    other.write(text).ok()?;
    other.end().ok()?;
    let found = found.borrow().clone();
    Some(found)
}

/// A tag as the other reader shows it.
pub(super) fn shown(name: &[u8], tag: &[u8], attributes: &[Attribute]) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let attributes: Vec<_> = attributes
        .iter()
        .map(|found| {
            let name = text(&tag[found.name.clone()]).to_ascii_lowercase();
            format!("{name}={}", text(&tag[found.value.clone()]))
        })
        .collect();
    format!(
        "{} {}",
        text(name).to_ascii_lowercase(),
        attributes.join(" ")
    )
}

/// The tags that this reader finds.
fn own_tags_of(text: &[u8]) -> Vec<String> {
    let mut page = Markup::new(Prefixer::example(), "/", Tags::none());
    page.seen = Some(Vec::new());
    let mut out = Vec::new();
    page.feed(text, &mut out);
    page.end(&mut out);
    page.seen.unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Where the pieces part makes no difference.
    #[test]
    fn pieces_read_as_the_whole(text in markup(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let whole = rewritten(&text);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(text.len());
        let (mut page, mut out, mut from) = (Markup::new(Prefixer::example(), "/a/b", tags()), Vec::new(), 0);
        for cut in cuts {
            page.feed(&text[from..cut], &mut out);
            from = cut;
        }
        page.end(&mut out);
        prop_assert_eq!(out.escape_ascii().to_string(), whole.escape_ascii().to_string());
    }

    #[test]
    fn one_byte_after_the_other_reads_as_the_whole(text in markup()) {
        let (mut page, mut out) = (Markup::new(Prefixer::example(), "/a/b", tags()), Vec::new());
        for byte in &text {
            page.feed(&[*byte], &mut out);
        }
        page.end(&mut out);
        prop_assert_eq!(out.escape_ascii().to_string(), rewritten(&text).escape_ascii().to_string());
    }

    /// What is moved already is not moved again.
    #[test]
    fn moving_twice_is_moving_once(text in markup()) {
        let move_once = |text: &[u8]| Markup::new(Prefixer::example(), "/a/b", Tags::none()).whole(text);
        let once = move_once(&text);
        prop_assert_eq!(move_once(&once).escape_ascii().to_string(), once.escape_ascii().to_string());
    }

    /// What is seen at a glance is what a closer look finds.
    #[test]
    fn usual_tags_are_no_others(text in markup()) {
        let mut page = Markup::new(Prefixer::example(), "/a/b", tags());
        page.seen = Some(Vec::new());
        let closely = page.whole(&text);
        prop_assert_eq!(rewritten(&text).escape_ascii().to_string(), closely.escape_ascii().to_string());
    }

    #[test]
    fn no_bytes_panic(text: Vec<u8>) {
        rewritten(&text);
        Markup::xml(Prefixer::example(), "/", tags()).whole(&text);
    }

    /// Another reader, which is used in front of very many pages, finds the same tags.
    #[test]
    fn tags_are_found_where_others_find_them(text in markup()) {
        // It knows one way into a foreign element and out of it; others have examples above.
        let count = |word: &[u8]| memmem::find_iter(&text, word).count();
        let foreign = count(b"<svg>") + count(b"<math>");
        let ends = [&b"</title>"[..], b"</mi>", b"</foreignObject>"];
        let nested = foreign > 1 || (foreign > 0 && ends.iter().any(|end| count(end) > 0));
        // It leaves byte order marks out of values.
        let marked = count("\u{feff}".as_bytes()) > 0;
        if !nested && !marked && let Some(others) = tags_of(&text) {
            prop_assert_eq!(own_tags_of(&text), others, "{}", text.escape_ascii());
        }
    }
}
