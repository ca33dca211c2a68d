//! Notices when the user's screen is locked and when their session ends: from logind on the system bus, and from the
//! screen savers on the session bus.

use std::collections::HashMap;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use zbus::message::Type;
use zbus::zvariant::{OwnedObjectPath, OwnedValue};
use zbus::{Connection, MatchRule, MessageStream};

use super::buses::{LOGIND, LogindProxy, session_bus, system_bus};
use super::lock_causes::LockCause;

const SESSION: &str = "org.freedesktop.login1.Session";

/// The interfaces of screen savers. Some have several paths or names on the bus; all send `ActiveChanged`.
const SCREEN_SAVERS: [&str; 5] = [
    "org.freedesktop.ScreenSaver",
    "org.gnome.ScreenSaver",
    "org.cinnamon.ScreenSaver",
    "org.mate.ScreenSaver",
    "org.xfce.ScreenSaver",
];

/// A user, as logind knows them (org.freedesktop.login1(5)).
#[zbus::proxy(interface = "org.freedesktop.login1.User", default_service = "org.freedesktop.login1")]
trait User {
    /// The user's graphical session; its path is `/` if there is none.
    #[zbus(property(emits_changed_signal = "false"))]
    fn display(&self) -> zbus::Result<(String, OwnedObjectPath)>;
}

/// What logind tells of the sessions of all users.
enum Seen {
    Began,
    Ended(OwnedObjectPath),
    Locked(OwnedObjectPath),
}

/// The user's session, as logind tells of it.
pub(super) struct Sessions {
    bus: Connection,
    logind: LogindProxy<'static>,
    seen: BoxStream<'static, zbus::Result<Seen>>,
    ours: Option<OwnedObjectPath>,
}

impl Sessions {
    /// Finds logind on the system bus.
    ///
    /// # Errors
    ///
    /// If there is no bus, or no logind on it.
    pub(super) async fn find() -> zbus::Result<Self> {
        let bus = system_bus().await?;
        let logind = LogindProxy::new(&bus).await?;
        let of_logind = || MatchRule::builder().msg_type(Type::Signal).sender(LOGIND);
        let locks = of_logind()?.interface(SESSION)?.member("Lock")?.build();
        let hints = of_logind()?
            .interface("org.freedesktop.DBus.Properties")?
            .member("PropertiesChanged")?
            .arg(0, SESSION)?
            .build();
        let locks = MessageStream::for_match_rule(locks, &bus, None).await?.map(|lock| locked(&lock?));
        let hints = MessageStream::for_match_rule(hints, &bus, None).await?;
        let hints = hints.filter_map(async |changed| locked_by_hint(&changed).transpose());
        let began = logind.receive_session_new().await?.map(|_| Ok(Seen::Began));
        let ended = logind.receive_session_removed().await?;
        let ended = ended.map(|ended| Ok(Seen::Ended(ended.args()?.path.clone())));
        let all = [locks.boxed(), hints.boxed(), began.boxed(), ended.boxed()];
        let mut sessions = Self { bus, logind, seen: stream::select_all(all).boxed(), ours: None };
        sessions.ours = sessions.ours_now().await;
        Ok(sessions)
    }

    /// Waits until the user's session is locked or ends; `None` if there is no bus any more.
    ///
    /// # Errors
    ///
    /// If logind does not reply as specified.
    pub(super) async fn next(&mut self) -> zbus::Result<Option<LockCause>> {
        while let Some(seen) = self.seen.next().await {
            let seen = seen?;
            let before = self.ours.take();
            self.ours = self.ours_now().await;
            match seen {
                Seen::Locked(session) if self.ours.as_ref() == Some(&session) => {
                    return Ok(Some(LockCause::Screen));
                }
                Seen::Ended(session) if before.as_ref() == Some(&session) => {
                    return Ok(Some(LockCause::SessionEnd));
                }
                Seen::Began | Seen::Locked(_) | Seen::Ended(_) => {}
            }
        }
        Ok(None)
    }

    /// Returns the session that the mount was made in, or else the user's graphical one: a mount made by a user service
    /// is in none.
    async fn ours_now(&self) -> Option<OwnedObjectPath> {
        if let Ok(id) = std::env::var("XDG_SESSION_ID")
            && let Ok(session) = self.logind.get_session(&id).await
        {
            return Some(session);
        }
        let display = async {
            let user = self.logind.get_user(rustix::process::getuid().as_raw()).await?;
            UserProxy::builder(&self.bus).path(user)?.build().await?.display().await
        };
        let display = display.await.inspect_err(|error| tracing::debug!(%error, "the user has no session"));
        display.ok().map(|(_, session)| session).filter(|session| session.as_str() != "/")
    }
}

fn locked(message: &zbus::Message) -> zbus::Result<Seen> {
    let header = message.header();
    let path = header.path().ok_or(zbus::Error::MissingField)?;
    Ok(Seen::Locked(path.to_owned().into()))
}

/// Returns the session whose changed properties say that it is locked.
fn locked_by_hint(changed: &zbus::Result<zbus::Message>) -> zbus::Result<Option<Seen>> {
    let changed = changed.as_ref().map_err(zbus::Error::clone)?;
    let body = changed.body();
    let (_, new, _): (String, HashMap<String, OwnedValue>, Vec<String>) = body.deserialize()?;
    let is_locked = new.get("LockedHint").is_some_and(|hint| bool::try_from(hint).unwrap_or(false));
    if is_locked { locked(changed).map(Some) } else { Ok(None) }
}

/// Returns what yields whenever a screen saver of the session locks the screen. Whoever sends such a signal is one of
/// the user's programs: at worst it locks what the user may lock.
///
/// # Errors
///
/// If there is no session bus.
pub(super) async fn screen_savers() -> zbus::Result<BoxStream<'static, ()>> {
    let bus = session_bus().await?;
    let rule = MatchRule::builder().msg_type(Type::Signal).member("ActiveChanged")?.build();
    let changes = MessageStream::for_match_rule(rule, &bus, None).await?;
    let locks = changes.filter_map(async |changed| {
        let changed = changed.ok()?;
        let is_of_one = |header: &zbus::message::Header<'_>| {
            header.interface().is_some_and(|it| SCREEN_SAVERS.contains(&it.as_str()))
        };
        let is_active = is_of_one(&changed.header()) && changed.body().deserialize::<bool>().unwrap_or(false);
        is_active.then_some(())
    });
    Ok(locks.boxed())
}
