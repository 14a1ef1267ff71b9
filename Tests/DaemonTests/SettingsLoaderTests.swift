import Foundation
import JobCore
import SystemPackage
import TestSupport
import Testing

@testable import Daemon

/// A small schema of the tests' own.
private enum Sample {
    struct Database: SettingsSection {
        var server: [String] = []
        var port = 389
        var password: Hidden?

        static let section = SectionName("Database")
        static let meaning = "The directory."
        static let keys: [Setting<Self>] = [
            Setting("SERVER", \.server, .words, meaning: "Where."),
            Setting("PORT", \.port, .number(1...65_535), restart: true, meaning: "Port."),
            Setting("ADMIN_PASSWORD", \.password, .secret { Hidden(text: $0) }, meaning: "Secret."),
        ]
        static let retired = [RetiredSetting("COOKIE_FILE", replacement: "the directory itself says what is due")]
    }

    struct Mode: SettingsSection {
        var sleep = Duration.seconds(30)

        static let section = SectionName("Operation Mode")
        static let meaning = "In operation."
        static let keys: [Setting<Self>] = [Setting("SLEEP", \.sleep, .duration(), meaning: "Wait.")]
    }

    struct Pool: SettingsSection {
        var volumes: [FilePath] = []

        static let section = SectionName("Pool", label: "NAME")
        static let meaning = "Volumes."
        static let keys: [Setting<Self>] = [Setting("VOLUMES", \.volumes, .paths, meaning: "Where.")]
    }

    /// A text that does not show itself.
    struct Hidden: Hashable, Sendable, CustomStringConvertible, CustomReflectable {
        let text: String
        var description: String { "(secret)" }
        var customMirror: Mirror { Mirror(self, children: []) }
    }

    static let schema = SettingsSchema([
        .init(Database.self), .init(Mode.self), .init(Pool.self),
        .init(retired: "Gateway", replacement: "the daemon runs on the backup server"),
    ])
}

extension Settings {
    fileprivate var database: Sample.Database { self[Sample.Database.self] }
    fileprivate var sleep: Duration { self[Sample.Mode.self].sleep }
    fileprivate func volumes(_ label: String) -> [FilePath] { self[Sample.Pool.self, label: label].volumes }
}

struct SettingsLoaderTests {
    private let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    private func load(_ text: String, mode: Int = 0o600, environment: [String: String] = [:]) throws -> Settings {
        Settings(
            Sample.schema, files: [try directory.file("a.conf", text, mode: mode)], environment: environment)
    }

    private func place(_ line: Int) -> SettingPlace { .file(directory.path.appending("a.conf").string, line: line) }

    @Test func `without any file every setting has its default`() {
        let settings = Settings(Sample.schema, files: [], environment: [:])
        #expect(settings.database.port == 389)
        #expect(settings.sleep == .seconds(30))
        #expect(settings.database.password == nil)
        #expect(settings.errors.isEmpty && settings.warnings.isEmpty)
    }

    @Test func `the environment wins over the service file, which wins over the global file`() throws {
        let global = try directory.file("g.conf", "[Database]\nPORT = 1\nSERVER = g\n[Operation Mode]\nSLEEP = 1\n")
        let service = try directory.file("s.conf", "[database]\nport = 2\nServer = s\n")
        let settings = Settings(
            Sample.schema, files: [global, service], environment: ["PROV_DATABASE_PORT": "3"])
        #expect(settings.database.port == 3)
        #expect(settings.database.server == ["s"])
        #expect(settings.sleep == .seconds(1))
        #expect(settings.place(of: \Sample.Database.port) == .environment("PROV_DATABASE_PORT"))
        #expect(settings.place(of: \Sample.Database.server) == .file(service.string, line: 3))
        #expect(settings.warnings.isEmpty)
    }

    @Test func `changes compare values instead of texts, and contain no values`() throws {
        let old = try load(
            "[Database]\nPORT = 389\nADMIN_PASSWORD = a\n[Operation Mode]\nSLEEP = 1m\n[Pool p]\nVOLUMES = /a\n")
        let same = try load(
            "[database]\nserver =\nAdmin_Password = a\n[Pool P]\nVOLUMES = /a\n",
            environment: ["PROV_OPERATION_MODE_SLEEP": "60s"])
        #expect(same.changes(since: old) == [] && old.changes(since: same) == [])
        let other = try load("[Database]\nPORT = 390\nADMIN_PASSWORD = b\n[Pool q]\nVOLUMES = /a\n")
        let names = [
            "[Database] ADMIN_PASSWORD", "[Database] PORT", "[Operation Mode] SLEEP", "[Pool p] VOLUMES",
            "[Pool q] VOLUMES",
        ]
        #expect(other.changes(since: old) == names && old.changes(since: other) == names)
        #expect(other.changes(since: old, isRestartNeeded: true) == ["[Database] PORT"])
    }

    @Test func `blanks in a section's name are underscores in the environment`() throws {
        #expect(try load("", environment: ["PROV_OPERATION_MODE_SLEEP": "5m"]).sleep == .seconds(300))
    }

    @Test func `sections with labels are found by label, in any case, and by the environment`() throws {
        let settings = try load(
            "[Pool fast-1]\nVOLUMES = /a\n[pool Slow]\nVOLUMES = /b\n",
            environment: ["PROV_POOL_FAST_1_VOLUMES": "/c", "PROV_POOL_NEW_VOLUMES": "/d"])
        #expect(settings.labels(of: Sample.Pool.self) == ["fast-1", "Slow", "new"])
        #expect(settings.volumes("fast-1") == ["/c"])
        #expect(settings.volumes("SLOW") == ["/b"])
        #expect(settings.volumes("new") == ["/d"])
    }

    @Test func `the last of two lines with the same key counts, and the warning names both lines`() throws {
        let settings = try load("[Database]\nPORT = 1\n\n[Database]\nPORT = 2\n")
        #expect(settings.database.port == 2)
        #expect(settings.warnings.map(\.place) == [place(5)])
        #expect(settings.warnings[0].description.contains("a.conf:2)"))
    }

    @Test func `all errors are found in one pass, each with file, line, section, key, value and hint`() throws {
        let settings = try load(
            "[Database]\nPORT = many\nnonsense\n[Operation Mode]\nSLEEP = soon\n[Pool a]\nVOLUMES = b\n",
            environment: ["PROV_DATABASE_SERVER": "x"])
        #expect(settings.errors.map(\.place) == [place(2), place(3), place(5), place(7)])
        let path = directory.path.appending("a.conf")
        #expect(
            settings.errors[0].description
                == "\(path):2: [Database] PORT = many: this is not a whole number; write a number, 1 to 65535")
        #expect(settings.errors[3].description.contains("[Pool a] VOLUMES = b"))
        #expect(settings.errors.allSatisfy { !$0.hint.isEmpty })
        #expect(settings.database.port == 389)
    }

    @Test func `a wrong value in the environment is named by its variable`() throws {
        let settings = try load("", environment: ["PROV_DATABASE_PORT": "0"])
        #expect(settings.errors.map(\.place) == [.environment("PROV_DATABASE_PORT")])
    }

    @Test func `unknown keys, sections and variables are warnings with the nearest name`() throws {
        let settings = try load(
            "[Database]\nPROT = 1\n[Databse]\nX = 1\n[Pol a]\n[Weather]\n[Pool]\nVOLUMES = /a\n",
            environment: ["PROV_DATABASE_PROT": "1", "PROV_UID": "3723707"])
        #expect(settings.errors.isEmpty)
        #expect(
            settings.warnings.map(\.hint) == [
                "did you mean PORT?", "did you mean [Database]?", "did you mean [Pool NAME]?",
                "look it up in prov-backup-rsnapshot.conf(5), SECTIONS, or take the section out", "write [Pool NAME]",
                "did you mean PROV_DATABASE_PORT?",
            ])
    }

    @Test func `the hint for a key in the wrong section names its section`() throws {
        let settings = try load("[Pool a]\nVOLUMES = /a\nPORT = 1\n")
        #expect(settings.errors.isEmpty)
        #expect(settings.warnings.map(\.hint) == ["move the line to [Database]"])
    }

    @Test func `the warning about a retired name contains its replacement`() throws {
        let settings = try load(
            "[Database]\nCOOKIE_FILE = /x\n[Gateway]\nHOST = a\nUSER = b\n"
        )
        #expect(settings.errors.isEmpty)
        #expect(
            settings.warnings.map(\.reason) == [
                "no longer used: the directory itself says what is due",
                "no longer used: the daemon runs on the backup server",
            ])
        #expect(settings.warnings.map(\.place) == [place(2), place(3)])
    }

    @Test func `a missing file is an error, and the other files are still read`() throws {
        let other = try directory.file("s.conf", "[Database]\nPORT = x\n")
        let missing = directory.path.appending("none.conf")
        let settings = Settings(Sample.schema, files: [missing, other], environment: [:])
        #expect(settings.errors.map(\.place) == [.wholeFile(missing.string), .file(other.string, line: 2)])
        #expect(settings.errors[0].description.contains("No such file"))
    }

    @Test func `a directory is not a settings file`() throws {
        let settings = Settings(Sample.schema, files: [directory.path], environment: [:])
        #expect(settings.errors.first?.reason.hasPrefix("is not a regular file") == true)
    }
}

struct SettingsSecretTests {
    private let directory: TemporaryDirectory
    private let secret = "hunter2-böse"

    init() throws { directory = try TemporaryDirectory() }

    private func load(_ files: [FilePath], _ environment: [String: String] = [:]) -> Settings {
        Settings(Sample.schema, files: files, environment: environment)
    }

    @Test(arguments: [0o640, 0o604, 0o644])
    func `a settings file with a password that other users can access is refused with the hint`(mode: Int) throws {
        let file = try directory.file("a.conf", "[Database]\nADMIN_PASSWORD = \(secret)\n", mode: mode)
        let settings = load([file])
        #expect(settings.errors.map(\.hint) == ["run: chmod 600 \(file)"])
        #expect(settings.errors.map(\.place) == [.wholeFile(file.string)])
    }

    @Test(arguments: [0o660, 0o606, 0o666])
    func `a settings file that others can write is not read, and the command fixes it`(mode: Int) throws {
        let file = try directory.file("a.conf", "[Database]\nSERVER = ldap://stranger\n", mode: mode)
        let settings = load([file])
        #expect(settings.lacksFile)
        #expect(settings.errors.map(\.hint) == ["chmod go-w \(file)"])
        #expect(settings.errors.first?.description.contains("mode 0\(String(mode, radix: 8))") == true)
    }

    @Test(.enabled(if: geteuid() == 0, "needs root: chown"))
    func `settings, secrets and credentials of others, or in a directory of others, are not read`() throws {
        let file = try directory.file("a.conf", "[Database]\nADMIN_PASSWORD_FILE = \(directory.path)/pw\n")
        let password = try directory.file("pw", secret)
        let credentials = directory.path.appending("credentials")
        #expect(mkdir(credentials.string, 0o755) == 0)
        let credential = try directory.file("credentials/admin-password", secret)
        let environment = ["CREDENTIALS_DIRECTORY": credentials.string]
        #expect(load([file], environment).errors.isEmpty)
        for (path, settings) in [
            (file, { load([file]) }), (password, { load([file]) }), (credential, { load([], environment) }),
            (credentials, { load([], environment) }),
        ] {
            #expect(chown(path.string, 65_534, 65_534) == 0)
            let errors = settings().errors
            #expect(errors.map(\.hint) == ["chown root \(path)"], "\(errors)")
            #expect(errors.first?.reason.contains("uid 65534, mode 0") == true, "\(errors)")
            #expect(chown(path.string, 0, 0) == 0)
            #expect(settings().errors.isEmpty)
        }
    }

    @Test func `one with an empty password may be read by all, and a protected one is accepted`() throws {
        #expect(load([try directory.file("a.conf", "[Database]\nADMIN_PASSWORD =\n", mode: 0o644)]).errors.isEmpty)
        let settings = load([try directory.file("b.conf", "[Database]\nADMIN_PASSWORD = \(secret)\n")])
        #expect(settings.errors.isEmpty)
        #expect(settings.database.password?.text == secret)
    }

    @Test func `a secret's file is read without its last line end`() throws {
        let file = try directory.file("pw", "\(secret)\n")
        let settings = load([try directory.file("a.conf", "[Database]\nADMIN_PASSWORD_FILE = \(file)\n", mode: 0o644)])
        #expect(settings.errors.isEmpty)
        #expect(settings.database.password?.text == secret)
        #expect(settings.file(of: \Sample.Database.password) == file.string)
        let upper = try directory.file("b.conf", "[Database]\nADMIN_PASSWORD = upper\n")
        #expect(
            load([try directory.file("c.conf", "[Database]\nADMIN_PASSWORD_FILE = \(file)\n"), upper])
                .file(of: \Sample.Database.password) == nil)
    }

    @Test func `a secret's file that is accessible for other users, missing or empty is refused`() throws {
        for (name, content, mode, expected) in [
            ("open", secret, 0o644, "other users can read"), ("empty", "\n", 0o600, "the file is empty"),
        ] {
            let file = try directory.file(name, content, mode: mode)
            let settings = load([try directory.file("a.conf", "[Database]\nADMIN_PASSWORD_FILE = \(file)\n")])
            #expect(settings.errors.count == 1)
            #expect(settings.errors.first?.reason.contains(expected) == true)
        }
        let settings = load([try directory.file("a.conf", "[Database]\nADMIN_PASSWORD_FILE = /none/pw\n")])
        #expect(settings.errors.map(\.key) == ["ADMIN_PASSWORD_FILE"])
    }

    @Test func `a password and a file for it in one layer contradict each other; across layers the upper one counts`()
        throws
    {
        let file = try directory.file("pw", "from-file")
        let both = try directory.file("a.conf", "[Database]\nADMIN_PASSWORD = x\nADMIN_PASSWORD_FILE = \(file)\n")
        #expect(load([both]).errors.map(\.key) == ["ADMIN_PASSWORD_FILE"])
        let lower = try directory.file("g.conf", "[Database]\nADMIN_PASSWORD_FILE = \(file)\n")
        let upper = try directory.file("s.conf", "[Database]\nADMIN_PASSWORD = upper\n")
        #expect(load([lower, upper]).database.password?.text == "upper")
        #expect(load([upper, lower]).database.password?.text == "from-file")
        #expect(
            load([lower, upper], ["PROV_DATABASE_ADMIN_PASSWORD_FILE": file.string]).database.password?.text
                == "from-file")
    }

    @Test func `a systemd credential wins over files, and the environment over it`() throws {
        let file = try directory.file("a.conf", "[Database]\nADMIN_PASSWORD = file\n")
        _ = try directory.file("admin-password", "credential\n", mode: 0o440)
        let environment = ["CREDENTIALS_DIRECTORY": directory.path.string]
        #expect(load([file], environment).database.password?.text == "credential")
        #expect(load([file], environment).errors.isEmpty)
        let upper = environment.merging(["PROV_DATABASE_ADMIN_PASSWORD": "variable"]) { $1 }
        #expect(load([file], upper).database.password?.text == "variable")
        #expect(load([file], ["CREDENTIALS_DIRECTORY": "/none"]).database.password?.text == "file")
    }

    @Test func `no description, dump, problem or default shows a secret`() throws {
        let file = try directory.file(
            "a.conf", "[Database]\nADMIN_PASSWORD = \(secret)\nADMIN_PASSWORD = \(secret)\n", mode: 0o644)
        var settings = load([file])
        settings.refuse(\Sample.Database.password, "wrong", hint: "right")
        settings.warn(\Sample.Database.password, "wrong", hint: "right")
        let value = try #require(settings.database.password)
        var shown = "\(settings) \(settings.errors) \(settings.warnings) \(value) \(String(reflecting: value))"
        dump(settings, to: &shown)
        dump(value, to: &shown)
        #expect(settings.errors.count == 2 && settings.warnings.count == 2)
        #expect(!shown.contains(secret))
    }
}

struct SettingsReferenceTests {
    @Test func `the reference has a row for each key, those for secrets' files included`() {
        let text = Sample.schema.reference
        for name in ["SERVER", "PORT", "ADMIN_PASSWORD", "ADMIN_PASSWORD_FILE", "SLEEP", "VOLUMES"] {
            #expect(text.contains("| `\(name)` |"))
        }
        #expect(text.contains("## [Pool NAME]"))
        #expect(text.contains("| `PORT` | number, 1 to 65535 | `389` | Port. (restart) |"))
    }

    @Test func `the manual page says the same as the reference`() {
        let text = Sample.schema.manualSections
        #expect(text.contains(".Ss [Pool NAME]\nVolumes.\n"))
        #expect(
            text.contains(
                #".It \&\fBPORT\fP"# + "\nPort.\n" + #"(number, 1 to 65535; default: \fB389\fP; restart)"# + "\n"))
        #expect(text.contains(#".It \&\fBADMIN_PASSWORD_FILE\fP"#))
    }

    @Test func `text of the manual page is text, also if it begins with a control character`() {
        #expect(ManualText.lines("Ends. .hidden a\\b `x`.") == "Ends.\n\\&.hidden a\\eb \\fBx\\fP.\n")
        #expect(ManualText.words("a number No 5") == "\\&a \\&number \\&No \\&5")
    }

    @Test func `the template can be loaded unchanged and contains no unknown names`() throws {
        let text = Sample.schema.template(
            ["Database", "Operation Mode", "Pool"], head: "A head\n\nof two paragraphs.")
        let titles = try text.utf8.split(separator: UInt8(ascii: "\n")).compactMap { line in
            if case .section(let title) = try INILine(parsing: Array(line)[...]) { title } else { nil }
        }
        #expect(titles == ["Database", "Operation Mode"])
        #expect(text.hasPrefix("# A head\n#\n# of two paragraphs.\n"))
        #expect(text.contains("# PORT = 389\n"))
    }
}
