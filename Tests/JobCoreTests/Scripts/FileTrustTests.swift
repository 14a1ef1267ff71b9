import Foundation
import Glibc
import JobCore
import SystemPackage
import Testing

extension Processes {
    /// The way to a script on a real file system.
    @Suite struct Permissions {
        let directory: ScriptDirectory
        init() throws { directory = try ScriptDirectory() }

        private func problem(_ path: FilePath, trustedOwners: Set<UInt32> = FileTrust.usualOwners)
            -> FileTrustError?
        {
            #expect(throws: FileTrustError.self) {
                try FileTrust.check(path, trustedOwners: trustedOwners)
            }
        }

        @Test("L2: a script that only we can write, in a temporary directory of ours, is accepted")
        func accepted() throws {
            let script = try directory.script("exit 0\n", mode: 0o750)
            #expect(try FileTrust.check(script) == script)
        }

        @Test("L2: a link to the directory that contains it, or to the root, is judged by its target")
        func linkWithoutComponents() throws {
            let shared = directory.path.appending("shared")
            #expect(mkdir(shared.string, 0o700) == 0)
            for (name, target) in [("here", "."), ("root", "/"), ("both", "./.")] {
                #expect(symlink(target, shared.appending(name).string) == 0)
                #expect(problem(shared.appending(name))?.problem == .notAFile)
            }
            try FileTrust.check(shared.appending("here"), as: .directory)
            try FileTrust.check(shared.appending("root"), as: .directory)
            // The sticky bit is enough on the way, and not for the directory itself.
            #expect(chmod(shared.string, 0o1777) == 0)
            #expect(throws: FileTrustError.self) { try FileTrust.check(shared.appending("here"), as: .directory) }
        }

        @Test("L2: a script of the system passes with root alone as trusted owner")
        func ofTheSystem() throws {
            try FileTrust.check("/bin/sh", trustedOwners: [0])
        }

        @Test(
            "L2: write permission for group or others on the script is refused",
            arguments: [0o775, 0o757, 0o720, 0o702] as [mode_t])
        func writableScript(mode: mode_t) throws {
            let script = try directory.script("exit 0\n", mode: mode)
            let error = problem(script)
            #expect(error?.problem == .writable)
            #expect(error?.path == script)
            #expect(error?.hint == "chmod go-w \(script.string)")
        }

        @Test(
            "L2: write permission on any directory above is refused, and the command in the message fixes it")
        func writableDirectory() async throws {
            let middle = directory.path.appending("middle")
            try FileManager.default.createDirectory(
                atPath: middle.appending("inner").string, withIntermediateDirectories: true)
            _ = try directory.script("exit 0\n", name: "middle/inner/x")
            let script = middle.appending("inner/x")
            try FileTrust.check(script)
            #expect(chmod(middle.string, 0o775) == 0)
            let error = problem(script)
            #expect(error?.problem == .writable)
            #expect(error?.path == middle)
            _ = try await ScriptRunner().run(.test("/bin/sh", ["-c", try #require(error?.hint)]))
            try FileTrust.check(script)
        }

        @Test(
            "L2: another owner is refused, of the script and of a directory",
            .enabled(if: geteuid() == 0, "needs root: chown")
        )
        func otherOwner() throws {
            let script = try directory.script("exit 0\n")
            #expect(chown(script.string, 65_534, 65_534) == 0)
            #expect(problem(script)?.problem == .wrongOwner(trusted: [0]))
            #expect(problem(script)?.hint == "chown root \(script.string)")
            try FileTrust.check(script, trustedOwners: [0, 65_534])
            #expect(chown(script.string, 0, 0) == 0)
            #expect(chown(directory.path.string, 65_534, 65_534) == 0)
            let error = problem(script)
            #expect(error?.path == directory.path)
            // The temporary directory is writable by everybody, so another user could have created a directory in it.
            #expect(
                error?.problem == .strangerInSharedDirectory(trusted: [0])
                    || error?.problem == .wrongOwner(trusted: [0]))
            #expect(chown(directory.path.string, 0, 0) == 0)
        }

        @Test(
            "L2: an access control list that lets somebody write is refused",
            .enabled(if: access("/usr/bin/setfacl", X_OK) == 0, "needs setfacl"))
        func accessControlList() async throws {
            let script = try directory.script("exit 0\n")
            let setfacl = try await ScriptRunner().run(.test("/usr/bin/setfacl", ["-m", "u:65534:rw", script.string]))
            try #require(setfacl.termination == .exited(code: 0))
            #expect(problem(script)?.problem == .writable)
        }

        @Test("L2: relative and absolute links are followed, and their targets are checked")
        func links() throws {
            let inner = directory.path.appending("inner")
            try FileManager.default.createDirectory(atPath: inner.string, withIntermediateDirectories: false)
            _ = try directory.script("exit 0\n", name: "inner/x")
            let target = inner.appending("x")
            let absolute = directory.path.appending("absolute")
            let relative = inner.appending("relative")
            let overDirectory = directory.path.appending("over")
            #expect(symlink(relative.string, absolute.string) == 0)
            #expect(symlink("../inner/./x", relative.string) == 0)
            #expect(symlink("inner", overDirectory.string) == 0)
            for path in [absolute, relative, overDirectory.appending("x"), overDirectory.appending("relative")] {
                #expect(try FileTrust.check(path) == target)
            }
            #expect(chmod(inner.string, 0o777) == 0)
            for path in [absolute, relative, overDirectory.appending("x")] { #expect(problem(path)?.path == inner) }
        }

        @Test("L2: a slash separates also where a combining mark follows it, and a link that is not text is refused")
        func bytes() throws {
            let target = try directory.script("exit 0\n", name: "x")
            let marked = FilePath("\(directory.path)/\u{301}b")
            try FileManager.default.createDirectory(atPath: marked.string, withIntermediateDirectories: false)
            #expect(symlink("\(directory.path)/\u{301}b/../x", directory.path.appending("up").string) == 0)
            #expect(symlink("/\u{301}none", directory.path.appending("root").string) == 0)
            #expect(
                [CChar](arrayLiteral: -1, 0).withUnsafeBufferPointer { name in
                    name.baseAddress.map { symlink($0, directory.path.appending("binary").string) } == 0
                })
            #expect(try FileTrust.check(directory.path.appending("up")) == target)
            #expect(problem(directory.path.appending("root"))?.path == FilePath("/\u{301}none"))
            let binary = problem(directory.path.appending("binary"))
            #expect(binary?.problem == .unreachable(.illegalByteSequence))
            #expect(binary?.failureClass == .configuration)
        }

        @Test("L2: a path with .. is checked at its target")
        func goesUp() throws {
            let shared = directory.path.appending("shared")
            try FileManager.default.createDirectory(
                atPath: shared.appending("x").string, withIntermediateDirectories: true)
            #expect(symlink("shared/x/..", directory.path.appending("up").string) == 0)
            let up = directory.path.appending("up")
            try FileTrust.check(up, as: .directory)
            #expect(chmod(shared.string, 0o1777) == 0)
            #expect(throws: FileTrustError.self) { try FileTrust.check(up, as: .directory) }
        }

        @Test("L2: of trusted paths, only those that others can change are faults")
        func faults() throws {
            let script = try directory.script("exit 0\n", mode: 0o644)
            #expect(TrustedPath("X", script, .program).fault == nil, "it is for its user to say")
            #expect(TrustedPath("X", directory.path.appending("none"), .file).fault == nil)
            #expect(TrustedPath("X", directory.path, .file).fault?.problem == .notAFile)
            #expect(chmod(directory.path.string, 0o777) == 0)
            #expect(TrustedPath("X", directory.path.appending("none"), .file).fault?.path == directory.path)
            #expect(chmod(directory.path.string, 0o755) == 0)
        }

        /// The files next to the handlers' script, and those of them that others can change.
        @Test(
            "L2: Python's script is trusted with everything that can be imported from its directory",
            arguments: [
                ("json.py", true), ("native.cpython-311-x86_64-linux-gnu.so", true), ("package/__init__.py", true),
                ("package/deep/er.py", true), ("__pycache__/os.cpython-311.pyc", true), ("namespace/", true),
                ("package/__pycache__/", true), ("site-hooks.py", true), ("a-b/c.py", true), ("notes.txt", false),
                ("hook-1.sh", false), (".#a.py", false), ("python3.11/c.py", false),
            ])
        func modules(name: String, counts: Bool) throws {
            let script = try directory.script("", name: "DirStartUp.py", mode: 0o644)
            let path = directory.path.pushing(FilePath(name))
            let directory = name.hasSuffix("/") ? path : path.removingLastComponent()
            try FileManager.default.createDirectory(atPath: directory.string, withIntermediateDirectories: true)
            if !name.hasSuffix("/") { try Data().write(to: URL(filePath: path.string)) }
            #expect(chmod(path.string, 0o755) == 0)
            try FileTrust.check(script, as: .pythonScript)
            #expect(chmod(path.string, 0o777) == 0)
            guard counts else {
                try FileTrust.check(script, as: .pythonScript)
                return
            }
            let error = #expect(throws: FileTrustError.self) { try FileTrust.check(script, as: .pythonScript) }
            #expect(error?.problem == .writable)
            #expect(error?.hint == "chmod go-w \(path)")
        }

        @Test("L2: links to modules are followed, including cyclic ones, and dangling ones are refused")
        func linkedModules() throws {
            let events = directory.path.appending("events")
            try FileManager.default.createDirectory(atPath: events.string, withIntermediateDirectories: false)
            let script = try directory.script("", name: "events/DirStartUp.py", mode: 0o644)
            let outside = directory.path.appending("outside")
            try FileManager.default.createDirectory(atPath: outside.string, withIntermediateDirectories: false)
            #expect(symlink("../outside", events.appending("package").string) == 0)
            #expect(symlink("..", outside.appending("back").string) == 0)
            try FileTrust.check(script, as: .pythonScript)
            #expect(chmod(outside.string, 0o777) == 0)
            #expect(TrustedPath("X", script, .pythonScript).fault?.path == outside)
            #expect(chmod(outside.string, 0o755) == 0)
            #expect(symlink("/tmp/none-\(getpid())", events.appending("late.py").string) == 0)
            #expect(TrustedPath("X", script, .pythonScript).fault?.isAbsent == true)
        }

        @Test("cyclic links are refused")
        func circle() throws {
            let one = directory.path.appending("one")
            let two = directory.path.appending("two")
            #expect(symlink("two", one.string) == 0)
            #expect(symlink("one", two.string) == 0)
            #expect(problem(one)?.problem == .tooManyLinks)
        }

        @Test("a path that is not a script is refused with its own reason")
        func noScript() throws {
            let script = try directory.script("exit 0\n", mode: 0o644)
            #expect(problem(script)?.problem == .notExecutable)
            #expect(problem(script)?.hint == "chmod u+x \(script.string)")
            #expect(problem(directory.path)?.problem == .notAFile)
            #expect(problem("/dev/null")?.problem == .notAFile)
            #expect(problem(script.appending("x"))?.problem == .notADirectory)
            #expect(problem(directory.path.appending("gone"))?.problem == .unreachable(.noSuchFileOrDirectory))
            #expect(problem(directory.path.appending("gone"))?.path == directory.path.appending("gone"))
            #expect(problem("bin/sh")?.problem == .notAbsolute)
            #expect(problem("/bin/..")?.problem == .notAFile)
        }
    }
}
