import JobCore

/// Where a setting was written.
package enum SettingPlace: Hashable, Sendable, CustomStringConvertible {
    /// A line of a settings file, counted from 1.
    case file(String, line: Int)
    /// A settings file as a whole.
    case wholeFile(String)
    /// A variable of the environment.
    case environment(String)
    /// A file of systemd's credentials.
    case credential(String)
    /// Nowhere: the default, or a key that is missing.
    case nowhere

    /// As a message begins: a place that editors and people find.
    package var description: String {
        switch self {
        case .file(let path, let line): "\(path):\(line)"
        case .wholeFile(let path): path
        case .environment(let name): "environment variable \(name)"
        case .credential(let path): "credential \(path)"
        case .nowhere: "settings"
        }
    }
}

/// One thing that is wrong with the settings: where, what, and how to correct it. Never holds a secret.
package struct SettingsProblem: Hashable, Sendable, CustomStringConvertible {
    /// How bad it is.
    package enum Severity: String, Hashable, Sendable {
        /// The settings can be used all the same.
        case warning
        case error
    }

    package var severity: Severity
    package var place: SettingPlace
    /// The section's title, when the problem lies in one.
    package var section: String?
    /// The key's name, when the problem lies in one.
    package var key: String?
    /// The value as it was written; `nil` where there is none and for everything secret.
    package var value: String?
    package var reason: String
    /// What to do about it; empty where the reason says it.
    package var hint = ""

    /// `FILE:LINE: [Section] KEY = value: reason; hint`, always one line.
    package var description: String {
        var parts = [place.description]
        var subject = section.map { "[\($0)]" } ?? ""
        if let key { subject += (subject.isEmpty ? "" : " ") + key }
        if let value { subject += " = \(value)" }
        if !subject.isEmpty { parts.append(subject) }
        parts.append(hint.isEmpty ? reason : "\(reason); \(hint)")
        return OneLine.escaping(parts.joined(separator: ": "))
    }
}

/// Settings that cannot be used, with everything that is wrong with them at once.
package struct SettingsError: Error, Hashable, Sendable, CustomStringConvertible {
    /// At least one.
    package let errors: [SettingsProblem]
    /// What else was noticed.
    package let warnings: [SettingsProblem]

    /// One line for each error.
    package var description: String { errors.map(\.description).joined(separator: "\n") }

    package var exitStatus: ProcessExitStatus { .wrongConfiguration }
}
