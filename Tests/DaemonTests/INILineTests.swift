import JobCore
import Testing

@testable import Daemon

struct INILineTests {
    private struct Section: SettingsSection {
        var text = ""
        static let section = SectionName("D")
        static let meaning = ""
        static let keys: [Setting<Self>] = [Setting("A", \.text, .text, meaning: "")]
    }

    private struct Other: SettingsSection {
        var text = ""
        static let section = SectionName("Other One")
        static let meaning = ""
        static let keys: [Setting<Self>] = [Setting("B", \.text, .text, meaning: "")]
    }

    private func read(_ bytes: some Sequence<UInt8>) -> Settings {
        var settings = Settings(
            SettingsSchema([.init(Section.self), .init(Other.self)]), files: [], environment: [:])
        _ = settings.read(Array(bytes), of: "a.conf")
        return settings
    }

    /// The text of a section's key.
    private func text<Section: SettingsSection>(_ settings: Settings, of section: Section.Type) -> String? {
        settings.entries[Section.keys[0].declaration.id(nil)]?.text
    }

    @Test func `a file becomes sections and keys with their lines`() {
        let settings = read("# head\n\n[D]\nA = 10\n  ; note\n[Other One]\r\nB=30\r\n".utf8)
        #expect(settings.problems.isEmpty)
        #expect(text(settings, of: Section.self) == "10")
        #expect(text(settings, of: Other.self) == "30")
        #expect(settings.place(of: \Section.text) == .file("a.conf", line: 4))
        #expect(settings.place(of: \Other.text) == .file("a.conf", line: 7))
    }

    @Test func `a value may contain hashes, semicolons and equals signs, and may be empty`() {
        let settings = read("[D]\nA = a#b;c=d  \n[Other One]\nB =\n".utf8)
        #expect(text(settings, of: Section.self) == "a#b;c=d")
        #expect(text(settings, of: Other.self)?.isEmpty == true)
    }

    @Test func `a byte order mark and a missing last line end are accepted`() {
        let settings = read("\u{FEFF}[D]\nA = ä".utf8)
        #expect(settings.problems.isEmpty)
        #expect(text(settings, of: Section.self) == "ä")
    }

    @Test(arguments: [
        ("[D]\nnonsense\n", 2, "neither [Section] nor KEY = value"),
        ("[D]\n = 1\n", 2, "no key"),
        ("A = 1\n[D]\n", 1, "before the first section"),
        ("[D\nA = 1\n", 1, "not written as [Section]"),
        ("[]\n", 1, "not written as [Section]"),
        ("[a]b]\n", 1, "not written as [Section]"),
        ("[D] # note\n", 1, "not written as [Section]"),
        ("[D]\nA = \u{0}\n", 2, "UTF-8"),
    ])
    func `a line that cannot be parsed is reported with file and line`(text: String, line: Int, reason: String) {
        let problems = read(text.utf8).problems
        #expect(problems.count == 1)
        #expect(problems.first?.place == .file("a.conf", line: line))
        #expect(problems.first?.reason.contains(reason) == true)
        #expect(problems.first?.description.hasPrefix("a.conf:\(line): ") == true)
    }

    @Test func `invalid UTF-8 is a problem, and the following lines are read`() {
        let settings = read(Array("[D]\nA = ".utf8) + [0xFF, 0x0A] + Array("A = 2".utf8))
        #expect(settings.problems.map(\.place) == [.file("a.conf", line: 2)])
        #expect(text(settings, of: Section.self) == "2")
    }

    @Test func `keys below an invalid section line do not become part of the previous section`() {
        let settings = read("[D]\nA = 1\n[Other One\nA = 2\n".utf8)
        #expect(text(settings, of: Section.self) == "1")
        #expect(settings.problems.count == 1)
    }

    @Test func `a line that cannot be parsed is not shown: it may contain a password`() {
        let problems = read("[Database]\nADMIN_PASSWORD: hunter2\n".utf8).problems
        #expect(!problems.map(\.description).joined().contains("hunter2"))
    }

    @Test func `random bytes do not crash the parser, and each problem names an existing line`() throws {
        var generator = SystemRandomNumberGenerator()
        let alphabet = Array("[]=#; \t\r\n\u{0}AD".utf8) + [0xC3, 0xFF]
        for _ in 0..<2_000 {
            let bytes = (0..<Int.random(in: 0...60, using: &generator)).map { _ in
                alphabet[Int.random(in: 0..<alphabet.count, using: &generator)]
            }
            let lines = bytes.split(separator: 0x0A, omittingEmptySubsequences: false)
            for problem in read(bytes).problems {
                guard case .file("a.conf", let line) = problem.place else {
                    Issue.record("\(problem) for \(bytes)")
                    continue
                }
                #expect((1...lines.count).contains(line), "\(bytes)")
            }
            for line in lines {
                if case .item(let key, _)? = try? INILine(parsing: line) { #expect(!key.isEmpty, "\(bytes)") }
            }
        }
    }
}
