import Foundation
import Glibc
import JobCore
import SystemPackage
import Testing

extension Processes {
    @Suite struct Outcome {
        let directory: ScriptDirectory
        init() throws { directory = try ScriptDirectory() }

        @Test("F8: an exit code is kept as it is", arguments: [0, 1, 2, 3, 75, 126, 127, 128, 255] as [Int32])
        func exitCode(code: Int32) async throws {
            let script = try directory.script("exit $1")
            let result = try await ScriptRunner().run(.test(script, ["\(code)"]))
            #expect(result.termination == .exited(code: code))
            #expect(result.cause == .itself)
            #expect(result.leftovers == [])
        }

        @Test(
            "the result of a script that a signal ended contains the signal",
            arguments: [SIGTERM, SIGKILL, SIGUSR1, SIGHUP])
        func ownSignal(number: Int32) async throws {
            let script = try directory.script("kill -$1 $$; sleep 1000")
            let result = try await ScriptRunner().run(.test(script, ["\(number)"]))
            #expect(result.termination == .signaled(number: number))
            #expect(result.cause == .itself)
        }

        @Test("D12: a script killed from outside ends with its signal, and the next one runs")
        func killedFromOutside() async throws {
            let script = try directory.script(
                "echo before; echo $$ > \"$1.new\"; mv \"$1.new\" \"$1\"; exec sleep 1000")
            let place = directory.path.appending("pid")
            async let running = ScriptRunner().run(.test(script, [place.string]))
            let process = try await processNumber(in: place)
            #expect(kill(process, SIGKILL) == 0)
            let result = try await running
            #expect(result.termination == .signaled(number: SIGKILL))
            #expect(result.cause == .itself)
            #expect(result.output.text == "before\n")
            #expect(ExitProfile.posix.reading(of: result).result == .failed)
            let next = try await ScriptRunner().run(.test(try directory.script("exit 0", name: "next.sh")))
            #expect(next.termination == .exited(code: 0))
        }

        @Test("output and error output are one stream in order")
        func interleaved() async throws {
            let script = try directory.script("for i in 1 2 3 4 5; do echo out $i; echo error $i >&2; done")
            let result = try await ScriptRunner().run(.test(script))
            #expect(result.output.lines == (1...5).flatMap { ["out \($0)", "error \($0)"] })
            #expect(result.output.dropped == 0)
        }

        @Test("a script that closes its output is waited for")
        func closedOutput() async throws {
            let script = try directory.script("exec >&- 2>&-; sleep 0.2; exit 7")
            let result = try await ScriptRunner().run(.test(script))
            #expect(result.termination == .exited(code: 7))
        }

        @Test("of a gigabyte of output the beginning and the end are kept, the rest is counted, and memory is constant")
        func gigabyte() async throws {
            let script = try directory.script("echo BEGIN; head -c 1073741824 /dev/zero; echo; echo END")
            try Data("5".utf8).write(to: URL(filePath: "/proc/self/clear_refs"))
            let before = try memoryPeak()
            let result = try await ScriptRunner().run(.test(script))
            let grown = try memoryPeak() - before
            #expect(result.termination == .exited(code: 0))
            #expect(result.output.head.count == 16384)
            #expect(result.output.tail.count == 49152)
            #expect(result.output.dropped == 1_073_741_824 + "BEGIN\n\nEND\n".utf8.count - 16384 - 49152)
            #expect(result.output.head.starts(with: "BEGIN\n\0".utf8))
            #expect(result.output.tail.suffix(6) == Array("\0\nEND\n".utf8))
            #expect(grown < 64 << 20, "memory grew by \(grown) bytes")
        }

        /// The largest resident size since it was reset, in bytes.
        private func memoryPeak() throws -> Int {
            let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
            let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") })
            return try #require(line.split(separator: " ").dropFirst().first.flatMap { Int($0) }) * 1024
        }
    }
}
