//! Messages as text, print and parse: the one spelling that scenarios, traces, captures and findings share.
//!
//! ```text
//! SetChunkSize 4096                           Abort 4                    Acknowledgement 12345
//! WindowAckSize 2500000                       SetPeerBandwidth 2500000 dynamic
//! StreamBegin 0  StreamEof 1  StreamDry 1     SetBufferLength 1 3000     StreamIsRecorded 1
//! PingRequest 77  PingResponse 77             UserControl 26 hex "00"
//! audio hex "af 01 21"                        video avc.key(300)
//! data("onMetaData", ecma{width: 320})        amf3 data("onTextData", …)
//! connect(1, {app: "live"})                   command("odd name", 0, null)      amf3 createStream(4, null)
//! sharedobject hex "…"                        message type=99 hex "01 02"
//! aggregate { audio ts=0 hex "…" ; video ts=20 hex "…" }
//! ```
//! Behind a message stand its fields: `csid=3 ts=40 msid=1 fmt=1`.

mod amf3;
pub mod error;
pub mod eval;
pub mod expr;
pub(crate) mod lex;
pub(crate) mod matching;
pub(crate) mod parse;
mod parse_pat;
pub mod print;

use error::Error;
use expr::{MessageExpr, SendFields};
use lex::Tok;
use parse::Parser;
pub use print::{brief, brief_payload, print, print_payload};

/// Reads one message with its fields: what [`print()`] makes, and everything else that may stand behind `>`.
///
/// # Errors
/// At the first mistake.
pub fn parse(text: &str) -> Result<(MessageExpr, SendFields), Error> {
    let mut parser = Parser::new(text)?;
    let message = parser.message()?;
    let fields = parser.send_fields()?;
    match parser.peek() {
        Tok::End => Ok((message, fields)),
        _ => parser.expected("the end of the message"),
    }
}
