//! What an administrator can set, and how the versions differ.

/// A version of the server, with the behaviour that was recorded of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 28.0.2: no public WebDAV of files by token, policy refusals are 403.
    V28,
    /// 29.0.1: public WebDAV by token, download limits.
    V29,
    /// 31.0.2: `X-NC-Skip-Trashbin`, forbidden names, refusals without a reason.
    V31,
    /// 32.0.2: 20 shares in 10 minutes.
    V32,
    /// 34.0.1: expiry at the end of the day, passwords redacted, locks.
    V34,
}

impl Version {
    /// All of them, the oldest first.
    pub const ALL: [Version; 5] = [Version::V28, Version::V29, Version::V31, Version::V32, Version::V34];

    /// The first number of the version.
    pub fn major(self) -> u32 {
        match self {
            Version::V28 => 28,
            Version::V29 => 29,
            Version::V31 => 31,
            Version::V32 => 32,
            Version::V34 => 34,
        }
    }

    /// As `status.php` and the capabilities name it.
    pub fn name(self) -> &'static str {
        match self {
            Version::V28 => "28.0.2",
            Version::V29 => "29.0.1",
            Version::V31 => "31.0.2",
            Version::V32 => "32.0.2",
            Version::V34 => "34.0.1",
        }
    }

    pub(super) fn full_name(self) -> &'static str {
        match self {
            Version::V28 => "28.0.2.5",
            Version::V29 => "29.0.1.1",
            Version::V31 => "31.0.2.1",
            Version::V32 => "32.0.2.2",
            Version::V34 => "34.0.1.2",
        }
    }

    /// What the versions do differently, in one place.
    pub(super) fn personality(self) -> Personality {
        let major = self.major();
        Personality {
            expires_at_end_of_day: major >= 34,
            today_is_taken: major >= 34,
            password_redacted: major >= 34,
            policy_refusal: if major >= 31 { 400 } else { 403 },
            public_upload_refusal: if major >= 31 { 400 } else { 404 },
            create_only_files_refused: major >= 31,
            label_bounded: major >= 31,
            empty_date_means_default: major < 29,
            reason_when_enforced: major != 31,
            custom_tokens: major >= 31,
            share_of_lost_file_deletable: major >= 34,
            public_dav: major >= 29,
            wrong_attempts_without_credentials: if major >= 32 { 2 } else { 1 },
            download_limit: major >= 29,
            download_limit_counts: major >= 32,
            zero_limit_refusal: if major >= 34 { 500 } else { 400 },
            skip_trashbin: major >= 31,
            parts_readable: major <= 32,
            total_checked_early: major >= 31,
            upload_needs_length: major <= 32,
            longest_put_name: if major >= 32 { 250 } else { 228 },
            partial_name_refusal: if major >= 31 { 400 } else { 423 },
            htaccess_refusal: match self {
                Version::V28 | Version::V29 => 403,
                Version::V31 | Version::V32 => 400,
                Version::V34 => 500,
            },
            paginates: major >= 31,
            locks: major >= 34,
            is_encrypted_of_folders: major <= 29,
            status_without_session: major >= 31,
            refusal_as_json: match self {
                Version::V28 | Version::V29 => RefusalFormat::Xml,
                Version::V31 => RefusalFormat::ByQuery,
                Version::V32 | Version::V34 => RefusalFormat::AsAsked,
            },
            checks_login_agents: major >= 34,
            attributes_by_enabled: major <= 29,
            attributes_follow_hiding: major == 31,
            public_file_ends_in_slash: major <= 31,
            knows_more_common: major <= 29,
        }
    }
}

/// In which format a refused login and maintenance are told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum RefusalFormat {
    Xml,
    ByQuery,
    AsAsked,
}

/// The differences that a client can meet.
#[allow(clippy::struct_excessive_bools)]
pub(super) struct Personality {
    pub(super) expires_at_end_of_day: bool,
    pub(super) today_is_taken: bool,
    pub(super) password_redacted: bool,
    pub(super) policy_refusal: u16,
    pub(super) public_upload_refusal: u16,
    pub(super) create_only_files_refused: bool,
    pub(super) label_bounded: bool,
    pub(super) empty_date_means_default: bool,
    pub(super) reason_when_enforced: bool,
    pub(super) custom_tokens: bool,
    pub(super) share_of_lost_file_deletable: bool,
    pub(super) public_dav: bool,
    pub(super) wrong_attempts_without_credentials: usize,
    pub(super) download_limit: bool,
    pub(super) download_limit_counts: bool,
    pub(super) zero_limit_refusal: u16,
    pub(super) skip_trashbin: bool,
    pub(super) parts_readable: bool,
    pub(super) total_checked_early: bool,
    pub(super) upload_needs_length: bool,
    pub(super) longest_put_name: usize,
    pub(super) partial_name_refusal: u16,
    pub(super) htaccess_refusal: u16,
    pub(super) paginates: bool,
    pub(super) locks: bool,
    pub(super) is_encrypted_of_folders: bool,
    pub(super) status_without_session: bool,
    pub(super) refusal_as_json: RefusalFormat,
    pub(super) checks_login_agents: bool,
    pub(super) attributes_by_enabled: bool,
    pub(super) attributes_follow_hiding: bool,
    pub(super) public_file_ends_in_slash: bool,
    pub(super) knows_more_common: bool,
}

/// What a password must be like.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)]
pub struct Policy {
    /// The fewest characters.
    pub min_length: usize,
    /// Not among the common ones.
    pub not_common: bool,
    /// At least one digit.
    pub numeric: bool,
    /// At least one character that is neither a letter nor a digit.
    pub special: bool,
    /// At least one letter of each case.
    pub upper_lower: bool,
}

impl Policy {
    /// Why it refuses `password`, in the server's words.
    pub(super) fn refusal(&self, version: Version, password: &str) -> Option<String> {
        let mut reasons = Vec::new();
        let common = COMMON.contains(&password)
            || version.personality().knows_more_common && COMMON_BEFORE.contains(&password);
        if self.not_common && common {
            reasons
                .push("Password is among the 1,000,000 most common ones. Please make it unique.".to_owned());
        }
        if password.chars().count() < self.min_length {
            reasons.push(format!("Password needs to be at least {} characters long.", self.min_length));
        }
        if self.numeric && !password.chars().any(|c| c.is_ascii_digit()) {
            reasons.push("Password needs to contain at least one numeric character.".to_owned());
        }
        if self.special && password.chars().all(char::is_alphanumeric) {
            reasons.push("Password needs to contain at least one special character.".to_owned());
        }
        let both = password.chars().any(char::is_lowercase) && password.chars().any(char::is_uppercase);
        if self.upper_lower && !both {
            reasons.push(
                "Password needs to contain at least one lower and one upper case character.".to_owned(),
            );
        }
        (!reasons.is_empty()).then(|| reasons.join(" "))
    }
}

/// A few of the million: enough for a test to be refused.
const COMMON: [&str; 8] =
    ["ab1", "123456", "qwerty", "1234567890", "qwertyuiop", "password123", "letmein123", "iloveyou12"];

/// The older lists had more.
const COMMON_BEFORE: [&str; 1] = ["1234512345"];

/// What an administrator can set. Fields are public, so that a test changes the one it is about.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)]
pub struct Settings {
    /// Whether links may be made at all.
    pub links_allowed: bool,
    /// Whether the sharing API is on.
    pub sharing_enabled: bool,
    /// Whether a link must have a password.
    pub password_enforced: bool,
    /// Days of the default expiry; also the most that may be asked for, if enforced.
    pub default_days: Option<u32>,
    /// Days given to a link without a date, where they are fewer than `default_days`.
    pub days_given: Option<u32>,
    /// Whether no link may live longer than `default_days`.
    pub days_enforced: bool,
    /// What passwords must be like.
    pub policy: Policy,
    /// Whether the app that answers about passwords is there.
    pub policy_app: bool,
    /// Bytes each account may fill.
    pub quota: Option<u64>,
    /// Characters that no name may have, beside `/` and `\`.
    pub forbidden_characters: Vec<char>,
    /// Names refused whatever the extension, as `CON`.
    pub forbidden_basenames: Vec<String>,
    /// Refused ends of names, as `.exe`.
    pub forbidden_extensions: Vec<String>,
    /// The longest part of a chunked upload; a longer one is answered with 413.
    pub chunk_max_size: u64,
    /// Whether users may empty their trash.
    pub delete_from_trash: bool,
    /// How many shares may be made in 10 minutes.
    pub shares_per_10_minutes: Option<u32>,
    /// Whether the server is being worked on.
    pub maintenance: bool,
    /// Where the server believes to be; it makes all its addresses of that.
    pub share_url_base: Option<String>,
    /// A name by which alice may log in, too; programs are told it after the login flow.
    pub login_name: Option<String>,
    /// Whether accounts have a second factor. Its code is `123456`.
    pub second_factor: bool,
    /// The only user agent whose login flow may go on (34).
    pub login_agent: Option<String>,
    /// Where the owner of a share is, who counts its days; told from 32 on. `None`: where this machine is.
    pub time_zone: Option<String>,
    /// Seconds by which the `Date` header is wrong.
    pub date_skew: i64,
    /// Whether wrong logins are counted.
    pub brute_force_protection: bool,
}

impl Settings {
    pub(super) fn of(version: Version) -> Settings {
        Settings {
            links_allowed: true,
            sharing_enabled: true,
            password_enforced: false,
            default_days: None,
            days_given: None,
            days_enforced: false,
            policy: Policy {
                min_length: 10,
                not_common: true,
                numeric: false,
                special: false,
                upper_lower: false,
            },
            policy_app: true,
            quota: None,
            forbidden_characters: Vec::new(),
            forbidden_basenames: Vec::new(),
            forbidden_extensions: Vec::new(),
            chunk_max_size: 104_857_600,
            delete_from_trash: true,
            shares_per_10_minutes: (version >= Version::V32).then_some(20),
            maintenance: false,
            share_url_base: None,
            login_name: None,
            second_factor: false,
            login_agent: None,
            time_zone: None,
            date_skew: 0,
            brute_force_protection: true,
        }
    }
}
