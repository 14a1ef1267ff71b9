import DaemonKit
import JobCore

extension SettingKind where Value == CronSchedule? {
    /// Cron notation, or empty for never by itself.
    static var schedule: Self {
        Self(form: "cron notation, or empty") { text throws(SettingValueError) in
            if text.isEmpty { return nil }
            do throws(CronSyntaxError) {
                return try CronSchedule(parsing: text)
            } catch {
                throw SettingValueError(error.summary, cure: error.cure)
            }
        } render: {
            $0?.description ?? ""
        }
    }
}

extension SettingKind where Value == TimeWindow? {
    /// `HH:MM-HH:MM`, or empty for any time.
    static var window: Self {
        Self(form: "HH:MM-HH:MM, or empty for any time") { text throws(SettingValueError) in
            if text.isEmpty { return nil }
            do throws(TimeWindow.SyntaxError) {
                return try TimeWindow(parsing: text)
            } catch {
                throw SettingValueError(error.reason, cure: error.cure)
            }
        } render: {
            $0?.description ?? ""
        }
    }
}

extension SettingKind where Value == String? {
    /// The absolute path of a script, or empty. What ends in `.template` is never run (row L7).
    static var script: Self {
        let path = SettingKind<String>.path
        return Self(form: "absolute path, or empty") { text throws(SettingValueError) in
            if text.isEmpty { return nil }
            let script = try path.parse(text)
            guard !script.hasSuffix(".template") else {
                throw SettingValueError(
                    "a template is never run", cure: "copy it to a name without .template, adapt the copy and name that"
                )
            }
            return script
        } render: {
            $0 ?? ""
        }
    }

    /// The name or number of a user of the system, or empty for the daemon's own.
    static var user: Self {
        Self(form: "user, or empty") { text throws(SettingValueError) in
            let isRight =
                !text.hasPrefix("-") && text.utf8.count <= 256
                && text.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "_.-$@".contains($0)) }
            guard isRight else {
                throw SettingValueError(
                    "this is not the name of a user", cure: "write a name such as backup, or a number")
            }
            return text.isEmpty ? nil : text
        } render: {
            $0 ?? ""
        }
    }
}

extension SettingKind where Value == String {
    /// The name of a service: letters, digits, hyphens and `_`.
    static var serviceName: Self {
        Self(form: "name") { text throws(SettingValueError) in
            guard !text.isEmpty, text.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || "_-".contains($0)) })
            else {
                throw SettingValueError("this is not a name", cure: "write Backup, or letters, digits, hyphens and _")
            }
            return text
        } render: {
            $0
        }
    }
}

extension SettingKind where Value == [MailAddress] {
    /// Mail addresses split by blanks.
    static var mailAddresses: Self {
        Self(form: "mail addresses split by blanks") { text throws(SettingValueError) in
            var addresses: [MailAddress] = []
            for word in text.split(whereSeparator: { $0 == " " || $0 == "\t" }) {
                do throws(MailAddress.Invalid) {
                    addresses.append(try MailAddress(parsing: String(word)))
                } catch {
                    throw SettingValueError(error.reason, cure: error.cure)
                }
            }
            return addresses
        } render: {
            $0.map(\.description).joined(separator: " ")
        }
    }
}
