import DaemonKit
import Foundation
import Testing

@testable import prov_backup_rsnapshot

/// A setting that is documented and that nothing reads is a promise which nobody keeps. It takes two looks to find one: each setting must change
/// something that the daemon works with, and code besides that which passes settings on must name what it changes.
@Suite struct SettingsUseTests {
    private let fixture: SettingsFixture
    /// Settings in which the keys of a section matter, by the section's title; for all others the first.
    private let bases: [(titles: Set<String>, text: String)]
    private let files: [String]

    init() throws {
        let fixture = try SettingsFixture()
        let files = try ["one", "two"].map { try fixture.file($0, "text of \($0)\n").string }
        (self.fixture, self.files) = (fixture, files)
        let local = SettingsFixture.minimum
        func remote(_ more: String) -> String {
            "[Database]\nSERVER = ldap.example.org\nSERVICE_SUBTREE = ou=accounts,dc=example,dc=org\n\(more)\n"
        }
        bases = [
            (["Service"], local),
            (
                ["Hooks", "Job", "Exit"],
                local + """
                    [Hooks Backup]
                    ENABLED = yes
                    DIRECTORY = /etc/hooks
                    [Job nightly]
                    SCRIPT = /etc/nightly.sh
                    EXIT_PROFILE = odd
                    [Exit odd]
                    3 = success
                    """
            ),
            (["Pool"], local + "[Pool fast]\nVOLUMES = /var/backup/fast\n"),
            (
                ["Script", "Service"],
                local + "[Service]\nSERVICE = Other\nTYPE = Script\n[Script]\nADD = /etc/add.sh\n"
            ),
            (["Database"], remote("ADMIN_USER = cn=daemon,dc=example,dc=org\nADMIN_PASSWORD = secret")),
            (["Database"], remote("ADMIN_USER = cn=daemon,dc=example,dc=org\nADMIN_PASSWORD_FILE = \(files[0])")),
            (
                ["Database"],
                remote("SASL_MECHANISM = EXTERNAL\nTLS_CERT_FILE = \(files[0])\nTLS_KEY_FILE = \(files[0])")
            ),
        ]
    }

    @Test("every setting changes what the daemon works with, and code names what it changes")
    func everyKeyIsRead() throws {
        let unchanged = try bases.map { try #require(try values($0.text)) }
        for (base, before) in zip(bases, unchanged) {
            #expect(try values(base.text) == before, "settings that are the same give the same")
        }
        let uses = SourceUses(of: DaemonBench.checkout)
        var looked = 0
        for section in DaemonSchema.schema.sections where section.use == .read {
            for key in section.keys + [section.pattern?.example].compactMap(\.self) {
                // Of a single choice nothing can depend.
                guard key.form != key.defaultText || key.form.isEmpty else { continue }
                looked += 1
                let changed = try changes(of: key, in: section, unchanged)
                let name = "[\(section.name)] \(key.name)"
                #expect(
                    !changed.isEmpty, "\(name) changes nothing: is it read? Or do `bases` lack what it needs?")
                #expect(
                    try changed.isEmpty || changed.contains(where: uses.contains),
                    "\(name) changes \(changed.sorted()), which no code names but that which passes it on")
            }
        }
        #expect(looked > 100)
    }

    @Test("what only passes a value on is no use of it")
    func passingOn() {
        #expect(SourceUses.isUse(of: "window", in: "limits.window.contains(now)"))
        #expect(SourceUses.isUse(of: "window", in: "guard let window else { return }"))
        for line in ["public var window: Window?", "self.window = window", "let jobs = Jobs(window: settings.window)"] {
            #expect(!SourceUses.isUse(of: "window", in: line), "\(line)")
        }
    }

    // MARK: - What the daemon works with

    /// - Returns: the properties whose value the key has changed, by the first of the settings in which it changes any.
    private func changes(
        of key: SettingDeclaration, in section: SettingsSection, _ unchanged: [[String: String]]
    ) throws -> Set<String> {
        let labels = ["Hooks": " Backup", "Job": " nightly", "Pool": " fast", "Exit": " odd"]
        if section.name.placeholder != nil { try #require(labels[section.name.title] != nil, "\(section.name)") }
        let title = section.name.title + (labels[section.name.title] ?? "")
        let own = bases.indices.filter { bases[$0].titles.contains(section.name.title) }
        for place in own.isEmpty ? [0] : own {
            let (base, before) = (bases[place], unchanged[place])
            for text in texts(for: key) {
                guard let after = try values("\(base.text)\n[\(title)]\n\(key.name) = \(text)\n") else { continue }
                let places = Set(before.keys).union(after.keys).filter { before[$0] != after[$0] }
                if !places.isEmpty { return Set(places.compactMap(Self.property)) }
            }
        }
        return []
    }

    /// The last property on the way to a value.
    private static func property(at path: String) -> String? {
        path.split(separator: ".").last.map { String($0.prefix { $0 != "[" }) }
    }

    /// - Returns: nil for settings that are refused.
    private func values(_ text: String) throws -> [String: String]? {
        do {
            var leaves: [String: String] = [:]
            collect(DaemonConfiguration(try fixture.load(text).settings, configFile: "file"), at: "", into: &leaves)
            return leaves
        } catch is SettingsError {
            return nil
        }
    }

    /// Down to the values of libraries, each under the names of the properties that lead to it.
    private func collect(_ value: Any, at path: String, into leaves: inout [String: String]) {
        // What was read is not what is worked with.
        if value is Settings { return }
        let mirror = Mirror(reflecting: value)
        switch mirror.displayStyle {
        case .class: leaves[path] = ""
        case .dictionary:
            for case let (_, (key, value) as (key: AnyHashable, value: Any)) in mirror.children {
                collect(value, at: "\(path)[\(key)]", into: &leaves)
            }
        case .optional, .collection, .enum, .tuple, .struct:
            guard !mirror.children.isEmpty, mirror.displayStyle != .struct || isOurs(type(of: value)) else {
                fallthrough
            }
            for (offset, child) in mirror.children.enumerated() {
                let name = mirror.displayStyle == .struct ? ".\(child.label ?? "")" : "[\(offset)]"
                collect(child.value, at: path + name, into: &leaves)
            }
        default:
            // Secrets do not show themselves.
            leaves[path] = "\(value) \((value as? AnyHashable)?.hashValue ?? 0)"
        }
    }

    private func isOurs(_ type: Any.Type) -> Bool {
        let name = String(reflecting: type)
        return !["Swift.", "SystemPackage.", "Foundation."].contains { name.hasPrefix($0) }
    }

    private func texts(for key: SettingDeclaration) -> [String] {
        if key.form.hasPrefix("one of ") { return key.form.dropFirst(7).components(separatedBy: ", ") }
        return [
            "yes", "no", "7", "17s", "2h", "700", "3G", "other", "/var/backup/other", "dc=other", "(ou=other)",
            "posix", "other@example.org", "30 4 * * *", "01:00-02:00", "Europe/Zurich", "description",
            "ldaps://other.example.org",
        ] + files
    }
}

/// The product's sources, but for the declarations of settings and what reads the files.
private struct SourceUses {
    private let sources: URL

    init(of checkout: URL) { sources = checkout.appending(path: "Sources") }

    /// Whether code uses a name for more than to declare, keep or pass on. Types are not told apart, so a name that many types have passes for all.
    func contains(_ name: String) throws -> Bool { try lines(with: name).contains { Self.isUse(of: name, in: $0) } }

    static func isUse(of name: String, in line: String) -> Bool {
        let rest = line.replacing(/\/\/.*/, with: "")
            .replacing(/self\.(\w+) = \1\b/, with: "")
            .replacing(/\b(\w+): (?:[\w.?!]*\.)?\1\b/, with: "")
            .replacing(/([(,]\s*|\b(?:let|var) |^\s*)\w+:/) { $0.1 }
            .replacing(/^\s*(?:\w+(?:\(set\))? )*(?:let|var) \w+ =/, with: "")
        return rest.matches(of: /\w+/).contains { $0.output == name }
    }

    private func lines(with name: String) throws -> [String] {
        let (grep, pipe) = (Process(), Pipe())
        grep.executableURL = URL(filePath: "/usr/bin/grep")
        grep.arguments = ["-rhwF", "--include=*.swift", "--exclude-dir=Settings", "-e", name, sources.path]
        grep.standardOutput = pipe
        try grep.run()
        let output = try pipe.fileHandleForReading.readToEnd() ?? Data()
        grep.waitUntilExit()
        return String(decoding: output, as: UTF8.self).split(separator: "\n").map(String.init)
    }
}
