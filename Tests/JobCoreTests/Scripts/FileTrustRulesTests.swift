import SystemPackage
import Testing

@testable import JobCore

/// The decision alone, without a file system.
@Suite struct FileTrustRulesTests {
    typealias Component = PathComponentStatus
    typealias Problem = FileTrustError.Problem

    static let trusted: Set<UInt32> = [0, 42]
    static let root = Component(text: "/", kind: .directory, owner: 0, mode: 0o755)
    static let scripts = Component(text: "/s", kind: .directory, owner: 0, mode: 0o755)
    static let shared = Component(text: "/t", kind: .directory, owner: 0, mode: 0o1777)

    static func file(_ path: String, owner: UInt32 = 0, mode: UInt32 = 0o755) -> Component {
        Component(text: path, kind: .file, owner: owner, mode: mode)
    }

    static let table: [(rule: String, components: [Component], fault: (Problem, FilePath)?)] = [
        ("root's script in root's directories", [root, scripts, file("/s/x")], nil),
        (
            "our own script in our own directory",
            [root, Component(text: "/s", kind: .directory, owner: 42, mode: 0o700), file("/s/x", owner: 42)], nil
        ),
        ("a script that its group can write", [root, scripts, file("/s/x", mode: 0o775)], (.writable, "/s/x")),
        ("a script that others can write", [root, scripts, file("/s/x", mode: 0o757)], (.writable, "/s/x")),
        ("a script of a stranger", [root, scripts, file("/s/x", owner: 7)], (.wrongOwner(trusted: [0, 42]), "/s/x")),
        (
            "a directory that its group can write",
            [root, Component(text: "/s", kind: .directory, owner: 0, mode: 0o775), file("/s/x")],
            (.writable, "/s")
        ),
        (
            "a directory of a stranger",
            [root, Component(text: "/s", kind: .directory, owner: 7, mode: 0o755), file("/s/x")],
            (.wrongOwner(trusted: [0, 42]), "/s")
        ),
        (
            "the uppermost directory counts",
            [Component(text: "/", kind: .directory, owner: 0, mode: 0o777), scripts, file("/s/x")], (.writable, "/")
        ),
        (
            "the first fault from above is reported",
            [root, Component(text: "/s", kind: .directory, owner: 7, mode: 0o755), file("/s/x", owner: 8)],
            (.wrongOwner(trusted: [0, 42]), "/s")
        ),
        (
            "our directory in a sticky directory",
            [root, shared, Component(text: "/t/s", kind: .directory, owner: 42, mode: 0o755), file("/t/s/x")], nil
        ),
        ("a script in a sticky directory", [root, shared, file("/t/x")], nil),
        (
            "a stranger's directory in a sticky directory",
            [root, shared, Component(text: "/t/s", kind: .directory, owner: 7, mode: 0o755)],
            (.strangerInSharedDirectory(trusted: [0, 42]), "/t/s")
        ),
        (
            "a sticky directory of a stranger",
            [root, Component(text: "/t", kind: .directory, owner: 7, mode: 0o1777), file("/t/x")],
            (.wrongOwner(trusted: [0, 42]), "/t")
        ),
        (
            "a stranger's link in a sticky directory",
            [root, shared, Component(text: "/t/l", kind: .link, owner: 7, mode: 0o777), scripts, file("/s/x")],
            (.strangerInSharedDirectory(trusted: [0, 42]), "/t/l")
        ),
        (
            "a link in a safe directory, whosoever's",
            [root, scripts, Component(text: "/s/l", kind: .link, owner: 7, mode: 0o777), file("/s/x")],
            nil
        ),
        (
            "what a link in a sticky directory leads to is judged by its own directory",
            [root, shared, Component(text: "/t/l", kind: .link, owner: 0, mode: 0o777), scripts, file("/s/x")], nil
        ),
        (
            "what a link leads to in the same sticky directory is judged by that",
            [root, shared, Component(text: "/t/l", kind: .link, owner: 0, mode: 0o777), file("/t/x", owner: 7)],
            (.strangerInSharedDirectory(trusted: [0, 42]), "/t/x")
        ),
        ("a directory instead of a script", [root, scripts], (.notAFile, "/s")),
        (
            "a device in the place of a script", [root, Component(text: "/d", kind: .other, owner: 0, mode: 0o755)],
            (.notAFile, "/d")
        ),
        ("a file in the place of a directory", [root, file("/s"), file("/s/x")], (.notADirectory, "/s")),
        ("a set-user-id bit changes nothing", [root, scripts, file("/s/x", mode: 0o4755)], nil),
    ]

    private static func fault(
        in components: [Component], file: FilePath, as kind: FileTrust.Kind
    ) -> FileTrustError? {
        var judge = FileTrust.Judge(file: file, kind: kind, trustedOwners: trusted)
        for (place, component) in components.enumerated() {
            if let fault = judge.fault(in: component, isLast: place == components.count - 1) { return fault }
        }
        return nil
    }

    @Test("L2: each rule", arguments: table)
    func rule(_ row: (rule: String, components: [Component], fault: (Problem, FilePath)?)) {
        let error = Self.fault(in: row.components, file: "/s/x", as: .program)
        #expect(error?.problem == row.fault?.0, "\(row.rule)")
        #expect(error?.path == row.fault?.1, "\(row.rule)")
    }

    @Test(
        "L2: a trusted directory must not have the sticky bit and write permission for others, and must not be a file")
    func directories() {
        func problem(_ components: [Component]) -> Problem? {
            Self.fault(in: components, file: "/s", as: .directory)?.problem
        }
        #expect(problem([Self.root, Self.scripts]) == nil)
        #expect(problem([Self.root, Self.shared]) == .writable)
        #expect(problem([Self.root, Self.file("/s")]) == .notADirectory)
        #expect(
            problem([Self.root, Component(text: "/s", kind: .directory, owner: 7, mode: 0o755)])
                == .wrongOwner(trusted: [0, 42]))
    }

    @Test("a path with a blank that does not exist may hold arguments, and the hint says that a script gets none")
    func arguments() {
        func hint(_ path: FilePath) -> String {
            FileTrustError(file: path, problem: .unreachable(.noSuchFileOrDirectory), path: path, status: nil).hint
        }
        #expect(hint("/x.sh arg").contains("no arguments"))
        #expect(!hint("/x.sh").contains("no arguments"))
    }

    @Test("L2: the message names the component, its owner and mode, and the command that fixes it")
    func message() {
        let error = FileTrustError(
            file: "/s/x y", problem: .writable, path: "/s/x y",
            status: Component(text: "/s/x y", kind: .file, owner: 0, mode: 0o775))
        #expect(
            error.description
                == "/s/x y: can be written by others than its owner [owner root, mode 0775]; chmod go-w '/s/x y'")
        let above = FileTrustError(
            file: "/s/x", problem: .wrongOwner(trusted: [0]), path: "/s",
            status: Component(text: "/s", kind: .directory, owner: 4_000_000_001, mode: 0o755))
        #expect(
            above.description
                == "/s (on the way to /s/x): does not belong to root [owner uid 4000000001, mode 0755]; chown root /s")
    }
}

extension Processes {
    @Suite struct ShellWords {
        @Test(
            "a path in a command is one word for a shell",
            arguments: [
                "/plain/path-1.0", "/with space", "/it's", "/$(id)", "/new\nline", "/both '\n\\", "/-x;y", "/ä",
                "/\u{1B}[2J\u{80}\u{7F}", "/\u{202E}'\"\\",
            ])
        func shellWord(path: String) async throws {
            let result = try await ScriptRunner().run(
                .test("/bin/bash", ["-c", "printf %s \(FilePath(path).shellWord)"]))
            #expect(result.output.text == path)
        }
    }
}
