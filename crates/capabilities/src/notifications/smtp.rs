//! Handing mail to a server: SMTP (RFC 5321) with TLS (RFC 8314) or STARTTLS (RFC 3207).

use std::sync::Arc;
use std::time::Duration;

use data_encoding::{BASE64, BASE64_MIME};
use opsroom_core::egress::Egress;
use opsroom_core::{Error, Result, Secret, Time};
use rustls::pki_types::ServerName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio_rustls::TlsConnector;

use super::channels::Content;
use super::mail::Mail;

/// How long a whole conversation may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The longest line of a server's answer, in bytes.
const LONGEST_LINE: usize = 4096;

/// How the connection to the server is kept from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Security {
    /// TLS from the start, usually on port 465.
    Tls,
    /// TLS before anything is said, usually on port 587; a server that does not offer it is refused.
    Starttls,
    /// None: only for a server on this machine.
    None,
}

/// The server that takes mail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SmtpConfig {
    /// Its name, such as `smtp.example.com`; without it no mail is sent. A private address must be allowed by
    /// `egress`.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `tls`, `starttls`, or `none` for a server on this machine.
    pub security: Security,
    /// The name to log in with; empty is without.
    pub username: String,
    /// The password for it.
    pub password: Secret,
    /// The address that mail comes from, such as `opsroom@example.com`.
    pub from: String,
}

impl Default for SmtpConfig {
    fn default() -> Self {
        Self {
            host: String::new(),
            port: 587,
            security: Security::Starttls,
            username: String::new(),
            password: Secret::default(),
            from: String::new(),
        }
    }
}

impl SmtpConfig {
    /// # Errors
    /// `Invalid`, beginning with the key.
    pub fn validate(&self) -> Result<()> {
        if self.host.is_empty() {
            return Ok(());
        }
        let plain =
            |text: &str| !text.contains(|c: char| c.is_control() || c.is_whitespace() || "<>".contains(c));
        if !self.from.contains('@') || !plain(&self.from) {
            return Err(Error::invalid(
                "notifications.smtp.from: it is an address such as opsroom@example.com",
            ));
        }
        let here = ["localhost", "127.0.0.1", "::1"].contains(&self.host.as_str());
        if self.security == Security::None && !here {
            return Err(Error::invalid(
                "notifications.smtp.security: `none` is for a server on this machine; use starttls",
            ));
        }
        Ok(())
    }
}

/// A mail as it is handed over.
pub struct Letter {
    /// The addresses that it goes to.
    pub to: Vec<String>,
    /// Its subject.
    pub subject: String,
    /// What it says.
    pub text: String,
    /// The same as HTML.
    pub html: Option<String>,
    /// What it is about: mails about the same are shown together.
    pub thread: String,
}

impl Letter {
    /// Of a message to people.
    pub fn of(content: &Content, to: &[String]) -> Self {
        let escape = |text: &str| {
            text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
        };
        let mut html = format!("<h3>{}</h3>\n<p>{}</p>\n", escape(&content.title), escape(&content.text));
        html = html.replace('\n', "<br>\n");
        for (name, value) in &content.fields {
            html.push_str(&format!("<p><b>{}</b>: {}</p>\n", escape(name), escape(value)));
        }
        let look = Some(("Open".to_owned(), content.url.clone())).filter(|(_, url)| !url.is_empty());
        for (name, url) in look.iter().chain(&content.actions) {
            if url.starts_with("https://") || url.starts_with("http://") {
                html.push_str(&format!("<p><a href=\"{}\">{}</a></p>\n", escape(url), escape(name)));
            }
        }
        Self {
            to: to.to_vec(),
            subject: content.title.clone(),
            text: content.body(),
            html: Some(html),
            thread: content.thread.clone(),
        }
    }
}

impl From<&Mail> for Letter {
    fn from(mail: &Mail) -> Self {
        Self {
            to: vec![mail.to.clone()],
            subject: mail.subject.clone(),
            text: mail.text.clone(),
            html: None,
            thread: String::new(),
        }
    }
}

/// Why a mail was not taken.
pub struct Trouble {
    /// In words, without the mail's contents.
    pub reason: String,
    /// Whether trying again is of no use.
    pub lasting: bool,
}

fn passing(reason: impl Into<String>) -> Trouble {
    Trouble { reason: reason.into(), lasting: false }
}

/// Hands a mail to the server.
pub async fn send(
    egress: &Egress,
    config: &SmtpConfig,
    mail: &Letter,
    id: &str,
    now: Time,
) -> Result<(), Trouble> {
    let work = async {
        let stream = egress.dial(&config.host, config.port).await.map_err(|error| passing(error.message))?;
        match config.security {
            Security::Tls => {
                let mut talk = Talk::new(tls(&config.host, stream).await?);
                talk.expect(220).await?;
                talk.deliver(config, mail, id, now).await
            }
            Security::None => {
                let mut talk = Talk::new(stream);
                talk.expect(220).await?;
                talk.deliver(config, mail, id, now).await
            }
            Security::Starttls => {
                let mut talk = Talk::new(stream);
                talk.expect(220).await?;
                talk.ask("EHLO opsroom", 250).await?;
                talk.ask("STARTTLS", 220).await?;
                // What came before the handshake is not trusted after it (RFC 3207, section 4.2).
                if !talk.stream.buffer().is_empty() {
                    return Err(passing("the server spoke before the handshake"));
                }
                let mut talk = Talk::new(tls(&config.host, talk.stream.into_inner()).await?);
                talk.deliver(config, mail, id, now).await
            }
        }
    };
    match tokio::time::timeout(LIMIT, work).await {
        Ok(result) => result,
        Err(_) => Err(passing("the server took too long")),
    }
}

async fn tls<S: AsyncRead + AsyncWrite + Unpin>(
    host: &str,
    stream: S,
) -> Result<tokio_rustls::client::TlsStream<S>, Trouble> {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| passing(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| passing("the server's name cannot be in a certificate"))?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    connected.map_err(|error| passing(format!("no secure connection: {error}")))
}

/// A conversation, line by line.
struct Talk<S> {
    stream: BufReader<S>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<S> {
    fn new(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    async fn deliver(
        &mut self,
        config: &SmtpConfig,
        mail: &Letter,
        id: &str,
        now: Time,
    ) -> Result<(), Trouble> {
        self.ask("EHLO opsroom", 250).await?;
        if !config.username.is_empty() {
            let words = format!("\0{}\0{}", config.username, config.password.expose());
            self.ask(&format!("AUTH PLAIN {}", BASE64.encode(words.as_bytes())), 235).await?;
        }
        self.ask(&format!("MAIL FROM:<{}>", address(&config.from)?), 250).await?;
        for to in &mail.to {
            self.ask(&format!("RCPT TO:<{}>", address(to)?), 250).await?;
        }
        self.ask("DATA", 354).await?;
        self.ask(&message(config, mail, id, now), 250).await?;
        // It has the mail; whether it heard the farewell does not matter.
        let _farewell = self.ask("QUIT", 221).await;
        Ok(())
    }

    async fn ask(&mut self, line: &str, wanted: u16) -> Result<(), Trouble> {
        let write = async {
            self.stream.get_mut().write_all(line.as_bytes()).await?;
            self.stream.get_mut().write_all(b"\r\n").await?;
            self.stream.get_mut().flush().await
        };
        write.await.map_err(|error| passing(format!("the connection broke: {error}")))?;
        self.expect(wanted).await
    }

    /// Reads an answer of one or more lines.
    async fn expect(&mut self, wanted: u16) -> Result<(), Trouble> {
        loop {
            let line = self.line().await?;
            let code: u16 = line.get(..3).and_then(|code| code.parse().ok()).unwrap_or(0);
            if line.as_bytes().get(3) == Some(&b'-') {
                continue;
            }
            if code == wanted || wanted == 250 && code == 251 {
                return Ok(());
            }
            // The server's words may repeat ours.
            return Err(Trouble {
                reason: format!("the server answered {code}"),
                lasting: (500..600).contains(&code),
            });
        }
    }

    async fn line(&mut self) -> Result<String, Trouble> {
        let mut line = Vec::new();
        loop {
            let bytes = self
                .stream
                .fill_buf()
                .await
                .map_err(|error| passing(format!("the connection broke: {error}")))?;
            if bytes.is_empty() {
                return Err(passing("the server hung up"));
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(bytes.len(), |end| end + 1);
            line.extend_from_slice(&bytes[..taken]);
            self.stream.consume(taken);
            if line.len() > LONGEST_LINE {
                return Err(passing("the server's answer has no end"));
            }
            if end.is_some() {
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
        }
    }
}

/// An address that cannot be more than one.
fn address(text: &str) -> Result<&str, Trouble> {
    let plain = text.contains('@')
        && !text.contains(|c: char| c.is_control() || c.is_whitespace() || "<>,;".contains(c));
    if plain { Ok(text) } else { Err(Trouble { reason: "the address is not one".to_owned(), lasting: true }) }
}

/// The whole message: every text that is not ours is encoded, so that it can neither add a header nor end the
/// message.
fn message(config: &SmtpConfig, mail: &Letter, id: &str, now: Time) -> String {
    let domain = config.from.rsplit_once('@').map_or("localhost", |(_, domain)| domain);
    let date = now.timestamp().strftime("%a, %d %b %Y %H:%M:%S +0000");
    let subject = BASE64.encode(mail.subject.as_bytes());
    let to: Vec<String> = mail.to.iter().map(|to| format!("<{to}>")).collect();
    let thread: String = mail.thread.chars().filter(char::is_ascii_alphanumeric).collect();
    let references = match thread.as_str() {
        "" => String::new(),
        thread => format!("References: <{thread}@{domain}>\r\nIn-Reply-To: <{thread}@{domain}>\r\n"),
    };
    let part = |kind: &str, text: &str| {
        let body = BASE64_MIME.encode(text.replace('\n', "\r\n").as_bytes());
        format!(
            "Content-Type: {kind}; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n{}\r\n",
            body.trim_end()
        )
    };
    let body = match &mail.html {
        None => part("text/plain", &mail.text),
        // No line of base64 begins with a dash.
        Some(html) => format!(
            "Content-Type: multipart/alternative; boundary=\"--{id}\"\r\n\r\n----{id}\r\n{}----{id}\r\n{}----{id}--\r\n",
            part("text/plain", &mail.text),
            part("text/html", html)
        ),
    };
    format!(
        "From: Opsroom <{}>\r\nTo: {}\r\nSubject: =?utf-8?B?{subject}?=\r\nDate: {date}\r\nMessage-ID: <{id}@{domain}>\r\n\
         {references}Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n{body}.",
        config.from,
        to.join(", "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_cannot_add_a_header_and_a_text_cannot_end_the_message() {
        let config = SmtpConfig { from: "ops@example.com".to_owned(), ..SmtpConfig::default() };
        let mail = Mail {
            to: "ada@example.com".to_owned(),
            subject: "x\r\nBcc: eve@example.com".to_owned(),
            text: "hello\n.\nQUIT".to_owned(),
        };
        let text = message(&config, &Letter::from(&mail), "1", Time(0));
        assert!(!text.contains("Bcc") && !text.contains("QUIT"));
        assert_eq!(text.matches("\r\n.").count(), 1);
        assert!(text.contains("Date: Thu, 01 Jan 1970 00:00:00 +0000"), "{text}");
    }

    #[test]
    fn a_message_to_people_has_two_forms_and_a_thread() {
        let config = SmtpConfig { from: "ops@example.com".to_owned(), ..SmtpConfig::default() };
        let content = Content {
            title: "down".to_owned(),
            text: "<script>alert(1)</script>".to_owned(),
            url: "javascript:alert(1)".to_owned(),
            thread: "g-1".to_owned(),
            ..Content::default()
        };
        let letter = Letter::of(&content, &["ada@example.com".to_owned()]);
        let html = letter.html.clone().unwrap();
        assert!(!html.contains("<script") && !html.contains("javascript"), "{html}");
        let text = message(&config, &letter, "1", Time(0));
        assert!(text.contains("References: <g1@example.com>\r\n"), "{text}");
        assert_eq!(text.matches("\r\n----1").count(), 3, "{text}");
        assert_eq!(text.matches("\r\n.").count(), 1);
    }

    #[test]
    fn an_address_is_one_address() {
        for bad in ["a@b\r\nRCPT TO:<c@d>", "a@b>,<c@d", "nobody", "a b@c"] {
            assert!(address(bad).is_err(), "{bad}");
        }
        let bare = SmtpConfig {
            host: "smtp.example.com".to_owned(),
            from: "a@b".to_owned(),
            ..SmtpConfig::default()
        };
        assert!(bare.validate().is_ok());
        assert!(SmtpConfig { security: Security::None, ..bare }.validate().is_err());
    }
}
