import Testing

@testable import Daemon

struct INIDocumentTests {
    private func read(_ text: String) -> INIDocument { INIDocument(parsing: text.utf8, source: "a.conf") }

    @Test func `a file becomes sections and keys with their lines`() {
        let document = read("# head\n\n[Global]\nSLEEP = 10\n  ; note\n[Operation Mode]\r\nSLEEP=30\r\n")
        #expect(document.problems.isEmpty)
        #expect(document.sections.map(\.title) == ["Global", "Operation Mode"])
        #expect(document.sections.map(\.line) == [3, 6])
        #expect(document.sections[0].items.map(\.value) == ["10"])
        #expect(document.sections[1].items.map(\.key) == ["SLEEP"])
        #expect(document.sections[1].items.map(\.line) == [7])
        #expect(document.sections[1].items.map(\.value) == ["30"])
    }

    @Test func `a value may contain hashes, semicolons and equals signs, and may be empty`() {
        let document = read("[D]\nA = a#b;c=d  \nB =\n")
        #expect(document.sections[0].items.map(\.value) == ["a#b;c=d", ""])
    }

    @Test func `a byte order mark and a missing last line end are accepted`() {
        let document = read("\u{FEFF}[D]\nA = ä")
        #expect(document.problems.isEmpty)
        #expect(document.sections[0].items.map(\.value) == ["ä"])
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
        let problems = read(text).problems
        #expect(problems.count == 1)
        #expect(problems.first?.place == .file("a.conf", line: line))
        #expect(problems.first?.reason.contains(reason) == true)
        #expect(problems.first?.description.hasPrefix("a.conf:\(line): ") == true)
    }

    @Test func `invalid UTF-8 is a problem, and the following lines are read`() {
        let document = INIDocument(
            parsing: Array("[D]\nA = ".utf8) + [0xFF, 0x0A] + Array("B = 2".utf8), source: "a.conf")
        #expect(document.problems.map(\.place) == [.file("a.conf", line: 2)])
        #expect(document.sections[0].items.map(\.key) == ["B"])
    }

    @Test func `keys below an invalid section line do not become part of the previous section`() {
        let document = read("[Mail]\nA = 1\n[Database\nB = 2\n")
        #expect(document.sections[0].items.map(\.key) == ["A"])
    }

    @Test func `a line that cannot be parsed is not shown: it may contain a password`() {
        #expect(!read("[Database]\nADMIN_PASSWORD: hunter2\n").problems.map(\.description).joined().contains("hunter2"))
    }

    @Test func `random bytes do not crash the parser, and each problem names an existing line`() {
        var generator = SystemRandomNumberGenerator()
        let alphabet = Array("[]=#; \t\r\n\u{0}ab".utf8) + [0xC3, 0xFF]
        for _ in 0..<2_000 {
            let bytes = (0..<Int.random(in: 0...60, using: &generator)).map { _ in
                alphabet[Int.random(in: 0..<alphabet.count, using: &generator)]
            }
            let lines = bytes.split(separator: 0x0A, omittingEmptySubsequences: false).count
            let document = INIDocument(parsing: bytes, source: "a.conf")
            for problem in document.problems {
                guard case .file("a.conf", let line) = problem.place else {
                    Issue.record("\(problem) for \(bytes)")
                    continue
                }
                #expect((1...lines).contains(line), "\(bytes)")
            }
            for item in document.sections.flatMap(\.items) { #expect(!item.key.isEmpty, "\(bytes)") }
        }
    }
}
