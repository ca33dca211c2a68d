//! Determines from its words what a server's own prompt asks for.

use super::credential::Credential;

/// Names of one-time passwords that contain the word password. They are looked for first, and removed before the rest
/// is checked.
const ONE_TIME_PASSWORDS: [&str; 8] = [
    "one-time password",
    "one time password",
    "onetime password",
    "one-time-password",
    "one-time passcode",
    "einmalpasswort",
    "einmalkennwort",
    "mot de passe à usage unique",
];

/// Words for codes that come from a device. A word that ends in one, such as "passcode", counts as another word.
const CODES: [&str; 4] = ["code", "codes", "token", "otp"];

/// Words for such codes that stand alone.
const CODES_ALONE: [&str; 13] = [
    "2fa",
    "authenticator",
    "codice",
    "codigo",
    "código",
    "hotp",
    "jeton",
    "kod",
    "kód",
    "mfa",
    "oath",
    "yubikey",
    "код",
];

/// Words for passwords and passphrases, wherever they stand.
const PASSWORDS: [&str; 14] = [
    "password",
    "passwd",
    "passphrase",
    "pass phrase",
    "passwort",
    "kennwort",
    "mot de passe",
    "contraseña",
    "senha",
    "wachtwoord",
    "lösenord",
    "hasło",
    "пароль",
    "first factor",
];

/// Words for secrets that are never a code from a device, even where they are called a code.
const OTHERS: [&str; 5] = ["secret", "recovery", "backup", "vault", "phrase"];

/// Returns what `prompt` asks for. It is a code only if the words name a code, and nothing else.
pub(super) fn wanted(prompt: &str) -> Credential {
    let mut text = prompt.to_lowercase();
    let mut code = text.contains("second factor");
    for name in ONE_TIME_PASSWORDS {
        code |= text.contains(name);
        text = text.replace(name, " ");
    }
    let password = PASSWORDS.iter().any(|name| text.contains(name));
    let (mut pin, mut other) = (false, false);
    for word in text.split(|c: char| !c.is_alphanumeric()) {
        code |= CODES_ALONE.contains(&word) || CODES.iter().any(|end| word.ends_with(end));
        pin |= matches!(word, "pin" | "pins" | "puk");
        other |= OTHERS.contains(&word);
    }
    match (password, pin, code) {
        (true, false, false) => Credential::Password,
        (false, true, false) => Credential::Pin,
        (false, false, true) if !other => Credential::Code,
        _ => Credential::Answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_prompts_that_name_a_code_and_nothing_else_ask_for_one() {
        // Prompts of PAM's modules for Google Authenticator, OATH, Duo, FreeIPA, RSA and privacyIDEA, and others.
        for prompt in [
            "Verification code: ",
            "One-time password (OATH) for `alice': ",
            "Passcode or option (1-2): ",
            "Second Factor (optional): ",
            "Enter PASSCODE: ",
            "Token_Response: ",
            "Number on your token> ",
            "Enter OTP: ",
            "Bestätigungscode: ",
            "Einmalpasswort: ",
            "Código de verificación: ",
        ] {
            assert_eq!(wanted(prompt), Credential::Code, "{prompt}");
        }
        for prompt in [
            "Password: ",
            "alice's password:",
            "LDAP Password: ",
            "Password for vault Vault: ",
            "PASSPHRASE for key /home/alice/.ssh/id: ",
            "First Factor: ",
            "Kennwort: ",
            "Mot de passe : ",
        ] {
            assert_eq!(wanted(prompt), Credential::Password, "{prompt}");
        }
        for prompt in ["PIN: ", "Its PIN: ", "Enter new PIN:"] {
            assert_eq!(wanted(prompt), Credential::Pin, "{prompt}");
        }
        for prompt in [
            "",
            "Colour?\n> ",
            "Challenge 4711: ",
            "Password and one-time password: ",
            "Your password (or a one-time password): ",
            "Verification code and password: ",
            "PIN + token: ",
            "Recovery code: ",
            "Code of your vault: ",
            "Secret code: ",
            "Pass\u{200b}word: ",
            "How do you spell tokens? ",
        ] {
            assert_ne!(wanted(prompt), Credential::Code, "{prompt}");
        }
    }
}
