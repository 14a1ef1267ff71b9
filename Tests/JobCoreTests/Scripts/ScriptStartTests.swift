import Foundation
import Glibc
import JobCore
import Synchronization
import SystemPackage
import TestSupport
import Testing

extension Processes {
    /// Errors of scripts that cannot be started: reason, path and hint.
    @Suite struct Start {
        let directory: ScriptDirectory
        init() throws { directory = try ScriptDirectory() }

        private func failure(_ invocation: ScriptInvocation) async throws -> ScriptError {
            let error = await #expect(throws: ScriptError.self) { try await ScriptRunner().run(invocation) }
            return try #require(error)
        }

        @Test("a script that does not exist")
        func missing() async throws {
            let path = directory.path.appending("gone.sh")
            let error = try await failure(.test(path))
            #expect(error.code == .notFound)
            #expect(error.path == path)
            #expect(error.errno == .noSuchFileOrDirectory)
            #expect(error.failureClass == .configuration)
            #expect(error.description.contains("gone.sh: cannot be started") && error.description.contains("namei -l"))
        }

        @Test("a script that is not executable")
        func notExecutable() async throws {
            let error = try await failure(.test(try directory.script("exit 0", mode: 0o644)))
            #expect(error.code == .notExecutable)
            #expect(error.errno == .permissionDenied)
            #expect(error.hint.contains("chmod u+x "))
        }

        @Test("a directory instead of a script")
        func isDirectory() async throws {
            #expect(try await failure(.test(directory.path)).code == .notAFile)
        }

        @Test("a path through a file")
        func throughFile() async throws {
            let error = try await failure(.test(try directory.script("exit 0").appending("x")))
            #expect(error.code == .other)
            #expect(error.errno == .notDirectory)
        }

        @Test("a missing interpreter is named", arguments: ["/nowhere/perl", "/bin/sh\r"])
        func interpreter(name: String) async throws {
            let error = try await failure(.test(try directory.script("#! \(name)\nexit 0\n")))
            #expect(error.code == .interpreter)
            #expect(error.errno == .noSuchFileOrDirectory)
            #expect(error.reason.hasSuffix(name.replacing("\r", with: "\\r")), "\(error)")
        }

        @Test("a file that is neither program nor script is not passed to a shell")
        func format() async throws {
            let path = directory.path.appending("plain")
            try Data("touch \(directory.path)/ran\n".utf8).write(to: URL(filePath: path.string))
            #expect(chmod(path.string, 0o755) == 0)
            let error = try await failure(.test(path))
            #expect(error.code == .format)
            #expect(error.errno == .execFormatError)
            #expect(!FileManager.default.fileExists(atPath: directory.path.appending("ran").string))
        }

        @Test("a path that is not absolute is not searched")
        func relative() async throws {
            #expect(try await failure(.test("true")).code == .path)
            #expect(try await failure(.test("/bin/true", workingDirectory: "tmp")).code == .path)
        }

        @Test("a working directory that does not exist")
        func workingDirectory() async throws {
            let error = try await failure(.test("/bin/true", workingDirectory: "/nowhere"))
            #expect(error.code == .workingDirectory)
            #expect(error.path == "/nowhere")
            #expect(error.errno == .noSuchFileOrDirectory)
        }

        @Test("a NUL in an argument is refused with its position")
        func argumentWithNUL() async throws {
            let error = try await failure(.test("/bin/echo", ["a", "b\0c"]))
            #expect(error.code == .argument)
            #expect(error.reason.contains("argument 2"))
            #expect(error.failureClass == .permanent)
        }

        @Test(
            "a variable that the kernel would cut or misread is refused by name",
            arguments: [("A", "b\0c"), ("A\0B", "c"), ("A=B", "c"), ("", "c"), ("1A", "c")])
        func variable(name: String, value: String) async throws {
            let error = try await failure(.test("/bin/echo", environment: [name: value]))
            #expect(error.code == .environment)
            #expect(error.reason.contains("\"\(name.replacing("\0", with: "\\u{0}"))\""))
        }

        @Test("arguments beyond the kernel's limit")
        func tooLong() async throws {
            let error = try await failure(.test("/bin/true", [String(repeating: "x", count: 1 << 20)]))
            #expect(error.code == .tooLong)
            #expect(error.errno == .argListTooLong)
        }

        @Test("a script that is being written is retried and then refused")
        func busy() async throws {
            let script = try directory.script("exit 0")
            let writing = open(script.string, O_WRONLY | O_CLOEXEC)
            #expect(writing >= 0)
            let error = await #expect(throws: ScriptError.self) { try await ScriptRunner().run(.test(script)) }
            close(writing)
            #expect(error?.code == .busy)
            #expect(error?.failureClass == .retryable)
            #expect(try await ScriptRunner().run(.test(script)).termination == .exited(code: 0))
        }

        @Test("a task that is cancelled between two attempts starts nothing")
        func cancelledBetweenTries() async throws {
            let script = try directory.script(": > \"$0.ran\"")
            let writing = open(script.string, O_WRONLY | O_CLOEXEC)
            #expect(writing >= 0)
            let tries = Mutex(0)
            let task = Task {
                try await ScriptRunner().run(.test(script)) { tries.withLock { $0 += 1 } }
            }
            try await eventually { tries.withLock { $0 } >= 2 }
            task.cancel()
            let error = await #expect(throws: ScriptError.self) { try await task.value }
            close(writing)
            #expect(error?.code == .cancelled || error?.code == .busy)
            #expect(!FileManager.default.fileExists(atPath: script.string + ".ran"))
        }

        @Test(
            "when descriptors run short, a script is refused before the last is taken, and runs when there are enough again"
        )
        func descriptorsRunShort() async throws {
            // In a process of its own: the limit would disturb other tests.
            await #expect(processExitsWith: .success) {
                var limit = rlimit()
                #expect(getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
                limit.rlim_cur = 256
                #expect(setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
                var held: [Int32] = []
                while case let descriptor = fcntl(0, F_DUPFD_CLOEXEC, 0), descriptor >= 0 { held.append(descriptor) }
                // Enough for one start, but not for the reserve of the rest of the program.
                for descriptor in held.suffix(16) { close(descriptor) }
                let error = await #expect(throws: ScriptError.self) { try await ScriptRunner().run(.test("/bin/true")) }
                #expect(error?.code == .resources)
                #expect(error?.errno == .tooManyOpenFiles)
                #expect(error?.failureClass == .shortage)
                for descriptor in held.dropLast(16) { close(descriptor) }
                await #expect(throws: Never.self) {
                    try await withThrowingTaskGroup(of: ScriptResult.self) { tasks in
                        for _ in 0..<16 { tasks.addTask { try await ScriptRunner().run(.test("/bin/true")) } }
                        for try await result in tasks { #expect(result.termination == .exited(code: 0)) }
                    }
                }
            }
        }

        @Test("no descriptor is lost when a start fails")
        func descriptors() async throws {
            func count() throws -> Int { try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count }
            _ = try await failure(.test("/nowhere/x"))
            let before = try count()
            for _ in 0..<50 {
                _ = try await failure(.test("/nowhere/x"))
                _ = try await failure(.test("/bin/true", workingDirectory: "/nowhere"))
            }
            // Other tests of this program open files meanwhile.
            try await eventually("descriptors left: \(before) before") { try count() <= before + 32 }
        }
    }
}
