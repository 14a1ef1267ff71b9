import DaemonKit
import Foundation
import Testing

@testable import prov_backup_rsnapshot

/// A setting that is documented and that nothing reads is a promise which nobody keeps. It takes two looks to find one: each setting must change
/// something that the daemon works with, and code besides that which passes settings on must name what it changes.
@Suite struct SettingsUseTests {
    private let fixture: SettingsFixture
    /// Settings in each of which other keys matter.
    private let bases: [String]
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
            local,
            local + """
                [Hooks Backup]
                ENABLED = yes
                DIRECTORY = /etc/hooks
                [Job nightly]
                SCRIPT = /etc/nightly.sh
                EXIT_PROFILE = odd
                [Exit odd]
                3 = success
                """,
            local + "[Pool fast]\nVOLUMES = /var/backup/fast\n",
            local + "[Service]\nSERVICE = Other\nTYPE = Script\n[Script]\nADD = /etc/add.sh\n",
            remote("ADMIN_USER = cn=daemon,dc=example,dc=org\nADMIN_PASSWORD = secret"),
            remote("ADMIN_USER = cn=daemon,dc=example,dc=org\nADMIN_PASSWORD_FILE = \(files[0])"),
            remote("SASL_MECHANISM = EXTERNAL\nTLS_CERT_FILE = \(files[0])\nTLS_KEY_FILE = \(files[0])"),
        ]
    }

    @Test("every setting changes what the daemon works with, and code names what it changes")
    func everyKeyIsRead() throws {
        let unchanged = try bases.map { try #require(try values($0)) }
        for (base, before) in zip(bases, unchanged) {
            #expect(try values(base) == before, "settings that are the same give the same")
        }
        let uses = try SourceUses(of: DaemonBench.checkout)
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
                    changed.isEmpty || changed.contains(where: uses.contains),
                    "\(name) changes \(changed.sorted()), which no code names but that which passes it on")
            }
        }
        #expect(looked > 100)
    }

    @Test("what only passes a value on is no use of it")
    func passingOn() {
        #expect(SourceUses(in: ["limits.window.contains(now)"]).contains("window"))
        #expect(SourceUses(in: ["guard let window else { return }"]).contains("window"))
        for line in ["public var window: Window?", "self.window = window", "let jobs = Jobs(window: settings.window)"] {
            #expect(!SourceUses(in: [line]).contains("window"), "\(line)")
        }
    }

    // MARK: - What the daemon works with

    /// - Returns: the properties whose value the key has changed, by the first of the settings in which it changes any.
    private func changes(
        of key: SettingDeclaration, in section: SettingsSection, _ unchanged: [[String: Leaf]]
    ) throws -> Set<String> {
        let labels = ["Hooks": " Backup", "Job": " nightly", "Pool": " fast", "Exit": " odd"]
        if section.name.placeholder != nil { try #require(labels[section.name.title] != nil, "\(section.name)") }
        let title = section.name.title + (labels[section.name.title] ?? "")
        for (base, before) in zip(bases, unchanged) {
            for text in texts(for: key) {
                guard let after = try values("\(base)\n[\(title)]\n\(key.name) = \(text)\n") else { continue }
                let places = Set(before.keys).union(after.keys).filter { before[$0]?.value != after[$0]?.value }
                if !places.isEmpty { return Set(places.compactMap { (before[$0] ?? after[$0])?.owners }.joined()) }
            }
        }
        return []
    }

    private struct Leaf: Equatable {
        let value: String
        /// The names of the properties on the way to it, without those that hold a whole section.
        let owners: [String]
    }

    /// - Returns: nil for settings that are refused.
    private func values(_ text: String) throws -> [String: Leaf]? {
        do {
            let settings = try fixture.load(text).settings
            var leaves: [String: Leaf] = [:]
            Self.collect(DaemonConfiguration(settings, configFile: "file"), at: "", [], into: &leaves)
            return leaves
        } catch is SettingsError {
            return nil
        }
    }

    private static func collect(_ value: Any, at path: String, _ owners: [String], into leaves: inout [String: Leaf]) {
        // What was read is not what is worked with.
        if value is Settings { return }
        let mirror = Mirror(reflecting: value)
        guard !mirror.children.isEmpty, mirror.displayStyle != .class, mirror.displayStyle != .set else {
            // Secrets do not show themselves.
            let hash = (value as? AnyHashable).map { " \($0.hashValue)" } ?? ""
            leaves[path] = Leaf(value: mirror.displayStyle == .class ? "" : "\(value)\(hash)", owners: owners)
            return
        }
        // Those that are read as a whole are not named by what reads a part.
        let isLeaf = mirror.children.allSatisfy { Mirror(reflecting: $0.value).children.isEmpty }
        for (offset, child) in mirror.children.enumerated() {
            if mirror.displayStyle == .dictionary, let (key, value) = child.value as? (key: AnyHashable, value: Any) {
                collect(value, at: "\(path)[\(key)]", owners, into: &leaves)
                continue
            }
            let label = child.label ?? "\(offset)"
            let own = mirror.displayStyle == .struct ? [label] : []
            collect(child.value, at: "\(path).\(label)", (isLeaf ? owners.suffix(1) : []) + own, into: &leaves)
        }
    }

    private func texts(for key: SettingDeclaration) -> [String] {
        if key.form.hasPrefix("one of ") { return key.form.dropFirst(7).components(separatedBy: ", ") }
        return files + [
            "yes", "no", "7", "17s", "2h", "700", "3G", "other", "/var/backup/other", "dc=other", "(ou=other)",
            "posix", "other@example.org", "30 4 * * *", "01:00-02:00", "Europe/Zurich", "description",
            "ldaps://other.example.org",
        ]
    }
}

/// The names in code that are more than declared, kept or passed on. Types are not told apart, so a name that many types have passes for all.
private struct SourceUses {
    private var names: Set<String> = []

    func contains(_ name: String) -> Bool { names.contains(name) }

    init(in lines: some Sequence<String>) {
        for line in lines {
            let passed = line.replacing(/\/\/.*/, with: "")
                .replacing(/self\.(\w+) = \1\b/, with: "")
                .replacing(/\b(\w+): (?:[\w.?!]*\.)?\1\b/, with: "")
                .replacing(/([(,]\s*|\b(?:let|var) |^\s*)\w+:/) { $0.1 }
                .replacing(/^\s*(?:\w+(?:\(set\))? )*(?:let|var) \w+ =/, with: "")
            names.formUnion(passed.matches(of: /\w+/).map { String($0.output) })
        }
    }

    /// - Parameter checkout: of it, the product's sources, but for the declarations of settings and what reads the files.
    init(of checkout: URL) throws {
        let sources = checkout.appending(path: "Sources")
        let files = try #require(FileManager.default.enumerator(at: sources, includingPropertiesForKeys: nil))
        self.init(in: [])
        for case let file as URL in files where file.pathExtension == "swift" && !file.path.contains("/Settings/") {
            let lines = try String(contentsOf: file, encoding: .utf8).split(separator: "\n").map(String.init)
            names.formUnion(SourceUses(in: lines).names)
        }
        try #require(!names.isEmpty)
    }
}
