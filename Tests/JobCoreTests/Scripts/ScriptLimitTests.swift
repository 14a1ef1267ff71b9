import Foundation
import Glibc
import SystemPackage
import Testing

@testable import JobCore

extension Processes {
    /// Umask and resource limits of a script.
    @Suite struct Limits {
        let folder: ScriptFolder
        init() throws { folder = try ScriptFolder() }

        @Test("the umask is the one given", arguments: [0, 0o22, 0o27, 0o77, 0o777] as [UInt32])
        func umask(mask: UInt32) async throws {
            let script = try folder.script("umask; : > \"$1\"")
            let file = folder.path.appending("made")
            let result = try await ScriptRunner().run(.test(script, [file.string], umask: mask))
            #expect(UInt32(result.output.text.dropLast(), radix: 8) == mask)
            var status = stat()
            #expect(stat(file.string, &status) == 0)
            #expect(status.st_mode & 0o777 == 0o666 & ~mask)
        }

        @Test("a script without one has this process's umask, and another script's does not change it")
        func umaskOfOurs() async throws {
            let ours = try String(contentsOfFile: "/proc/self/status", encoding: .utf8).split(separator: "\n")
                .first { $0.hasPrefix("Umask:") }
            _ = try await ScriptRunner().run(.test("/bin/true", umask: 0o77))
            let result = try await ScriptRunner().run(.test("/bin/cat", ["/proc/self/status"]))
            #expect(result.output.lines.first { $0.hasPrefix("Umask:") } == ours)
        }

        @Test(
            "each limit is the one given, soft and hard, and the others are as in this process",
            arguments: ResourceLimit.Resource.allCases)
        func limit(resource: ResourceLimit.Resource) async throws {
            let script = try folder.script("cat /proc/self/limits")
            // Small enough to lower any, large enough for a shell to start.
            let soft: UInt64 =
                switch resource {
                case .openFiles, .processes: 200
                case .lockedMemory: 1 << 20
                default: 1 << 30
                }
            let plain = try await ScriptRunner().run(.test(script)).output.lines
            let limited = try await ScriptRunner().run(
                .test(script, resourceLimits: [ResourceLimit(resource, soft: soft, hard: soft + 4096)])
            ).output.lines
            try #require(plain.count == limited.count)
            let changed = zip(plain, limited).filter { $0 != $1 }.map(\.1)
            #expect(changed.count == 1)
            let words = changed.first?.split(separator: " ") ?? []
            #expect(words.contains("\(soft)") && words.contains("\(soft + 4096)"), "\(changed)")
        }

        @Test("a script that goes beyond its limit is stopped by the kernel, and the result tells by what")
        func fileSize() async throws {
            let script = try folder.script("exec head -c 100000 /dev/zero > \"$1\"")
            let file = folder.path.appending("large")
            let result = try await ScriptRunner().run(
                .test(script, [file.string], resourceLimits: [ResourceLimit(.fileSize, 4096)]))
            #expect(result.termination == .signaled(number: SIGXFSZ))
            var status = stat()
            #expect(stat(file.string, &status) == 0)
            #expect(status.st_size == 4096)
        }

        @Test("a soft limit above the hard one, and a umask that is none, are refused before anything starts")
        func nonsense() async throws {
            let limits = [ResourceLimit(.openFiles, soft: nil, hard: 10)]
            for invocation in [
                ScriptInvocation.test("/bin/true", resourceLimits: limits), .test("/bin/true", umask: 0o1000),
            ] {
                let error = await #expect(throws: ScriptError.self) { try await ScriptRunner().run(invocation) }
                #expect(error?.code == .limit)
                #expect(error?.failureClass == .configuration)
            }
        }

        @Test("a limit that the kernel refuses is named, and the script is not started")
        func refused() async throws {
            // Nobody may have more descriptors than the machine.
            let limit = ResourceLimit(.openFiles, UInt64.max - 1)
            let error = await #expect(throws: ScriptError.self) {
                try await ScriptRunner().run(.test("/bin/true", resourceLimits: [limit]))
            }
            #expect(error?.code == .limit)
            #expect(error?.errno == .notPermitted)
            #expect(error?.reason.contains("nofile") == true)
        }

        @Test("by way of the starter, a script that cannot be started says why as without it")
        func faults() async throws {
            let faults: [(FilePath, ScriptError.Code)] = [
                (folder.path.appending("gone"), .notFound),
                (try folder.script("exit 0", name: "mode.sh", mode: 0o644), .notExecutable),
                (folder.path, .notAFile),
                (try folder.script("#!/no/such/interpreter\n", name: "interpreter.sh"), .interpreter),
                (try folder.script("#!", name: "format"), .format),
            ]
            for (path, code) in faults.dropLast() {
                let error = await #expect(throws: ScriptError.self) {
                    try await ScriptRunner().run(.test(path, umask: 0o22))
                }
                #expect(error?.code == code, "\(path)")
            }
            let text = folder.path.appending("text")
            try Data("no program".utf8).write(to: URL(filePath: text.string))
            #expect(chmod(text.string, 0o755) == 0)
            let error = await #expect(throws: ScriptError.self) {
                try await ScriptRunner().run(.test(text, umask: 0o22))
            }
            #expect(error?.code == .format)
        }

        @Test("exit codes are the script's own, 127 included", arguments: [0, 1, 126, 127, 255] as [Int32])
        func exitCode(code: Int32) async throws {
            let script = try folder.script("exit $1")
            let result = try await ScriptRunner().run(.test(script, ["\(code)"], umask: 0o22))
            #expect(result.termination == .exited(code: code))
            #expect(result.output.text == "")
        }
    }
}
