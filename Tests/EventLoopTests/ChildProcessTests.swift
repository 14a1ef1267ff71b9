import Glibc
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import EventLoop

/// Programs that are no scripts of jobs.
@Suite struct ChildProcessTests {
    private static func shell(_ script: String, _ arguments: String...) -> ChildProcess.Program {
        ChildProcess.Program("/bin/sh", ["-c", script, "sh"] + arguments)
    }

    private static func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

    @Test("output and standard error are separate or joined, and at most the limit is kept")
    func output() async throws {
        let program = Self.shell("echo out; echo err >&2; exit 7")
        let apart = try await ChildProcess.run(program, keeping: 100)
        #expect(Self.text(apart.output) == "out\n" && Self.text(apart.error) == "err\n")
        #expect(apart.termination == .exited(code: 7))
        let merged = try await ChildProcess.run(program, keeping: 100, isMerged: true)
        #expect(Self.text(merged.output) == "out\nerr\n" && merged.error.isEmpty)
        let long = try await ChildProcess.run(Self.shell("head -c 3000000 /dev/zero; kill -9 $$"), keeping: 5)
        #expect(long.output == [0, 0, 0, 0, 0])
        #expect(long.termination == .signaled(number: SIGKILL))
    }

    /// Has a child whose output it takes, as the holders of children do.
    @MainActor private final class Holder {
        var child: ChildProcess?
        var said: [UInt8] = []

        func run() async throws {
            let child = try await ChildProcess.start(
                ChildProcessTests.shell("cat"), input: .open, output: .pipe { self.said += $0 })
            self.child = child
            child.closeInput()
            await child.exited()
            _ = await child.reap()
        }
    }

    @Test("a program that has ended does not hold the one that took its output")
    @MainActor func released() async throws {
        weak var former: Holder?
        do {
            let holder = Holder()
            former = holder
            try await holder.run()
        }
        #expect(former == nil)
    }

    @Test("input of any length arrives complete, also in pieces, and a program that reads nothing also ends")
    @MainActor func input() async throws {
        let bytes = [UInt8](repeating: 65, count: 3_000_000)
        let count = try await ChildProcess.run(
            ChildProcess.Program("/usr/bin/wc", ["-c"]), input: .bytes(bytes), keeping: 20)
        #expect(Self.text(count.output) == "3000000\n")
        var number = 0
        let pieces = try await ChildProcess.run(
            ChildProcess.Program("/bin/cat"),
            input: .pieces {
                number += 1
                return number > 3 ? nil : Array("\(number)".utf8)
            }, keeping: 20)
        #expect(Self.text(pieces.output) == "123")
        let deaf = try await ChildProcess.run(ChildProcess.Program("/bin/true"), input: .bytes(bytes), keeping: 0)
        #expect(deaf.termination == .exited(code: 0))
        let empty = try await ChildProcess.run(ChildProcess.Program("/bin/cat"), keeping: 20)
        #expect(empty.output.isEmpty && empty.termination == .exited(code: 0))
    }

    @Test("a program begins with its environment, its directory, the three standard descriptors, and no signal blocked")
    func surroundings() async throws {
        let program = ChildProcess.Program(
            "/bin/sh",
            [
                "-c",
                "env | grep -v -e PWD= -e _= -e SHLVL=; pwd; ls /proc/$$/fd; exec grep SigBlk /proc/self/status",
            ],
            environment: ["NAME": "value"], in: "/usr")
        let outcome = try await ChildProcess.run(program, keeping: 1_000)
        #expect(
            Self.text(outcome.output).split(whereSeparator: \.isWhitespace) == [
                "NAME=value", "/usr", "0", "1", "2", "SigBlk:", "0000000000000000",
            ])
    }

    @Test(
        "what cannot be started says why",
        arguments: [
            (FilePath("/none/program"), Errno.noSuchFileOrDirectory), ("/etc/passwd", .permissionDenied),
        ])
    func refused(_ path: FilePath, _ reason: Errno) async throws {
        await #expect(throws: reason) { try await ChildProcess.run(ChildProcess.Program(path), keeping: 0) }
    }

    @Test(
        "a program that ignores SIGTERM is killed after the grace period, with what it has started in its process group"
    )
    func grace() async throws {
        let (said, hasSaid) = AsyncStream.makeStream(of: Int32.self)
        let child = try await ChildProcess.start(
            Self.shell("trap '' TERM; sleep 1000 & echo $!; wait; wait"),
            output: .pipe { if let id = Int32(Self.text($0).dropLast()) { hasSaid.yield(id) } })
        let sleeper = try #require(await said.first { _ in true })
        await child.kill(after: .milliseconds(1))
        await child.exited()
        #expect(await child.reap() == .signaled(number: SIGKILL))
        try await eventually("nothing is left") { kill(sleeper, 0) != 0 || Self.isZombie(sleeper) }
    }

    @Test("the deadline ends a program")
    func deadline() async throws {
        let clock = ManualSteadyClock()
        let deadline = Deadline(in: .seconds(60), by: clock)
        let running = Task {
            try await ChildProcess.run(Self.shell("exec sleep 1000"), keeping: 0, until: deadline)
        }
        clock.advance(by: .seconds(60))
        let outcome = try await running.value
        #expect(outcome.isLate && outcome.termination == .signaled(number: SIGKILL))
    }

    private static func isZombie(_ id: Int32) -> Bool {
        guard let file = try? FileDescriptor.open(FilePath("/proc/\(id)/stat"), .readOnly) else { return true }
        defer { try? file.close() }
        var bytes = [UInt8](repeating: 0, count: 512)
        let count = bytes.withUnsafeMutableBytes { (try? file.read(into: $0)) ?? 0 }
        return text(Array(bytes.prefix(count))).contains(") Z ")
    }

    @Test("a program ends with the task that waits for it")
    func cancelled() async throws {
        let (began, hasBegun) = AsyncStream.makeStream(of: Void.self)
        let running = Task {
            try await ChildProcess.run(
                Self.shell("exec sleep 1000"),
                input: .pieces {
                    hasBegun.finish()
                    return nil
                }, keeping: 0)
        }
        for await _ in began {}
        running.cancel()
        await #expect(throws: CancellationError.self) { try await running.value }
    }

    @Test("a process that outlives the program and holds its output open delays no caller")
    func leftBehind() async throws {
        let outcome = try await ChildProcess.run(Self.shell("sleep 1000 & echo $!"), keeping: 100)
        let sleeper = try #require(Int32(Self.text(outcome.output).dropLast()))
        #expect(kill(sleeper, SIGKILL) == 0)
    }

    @Test("an open input accepts writes, and ends when it is closed")
    @MainActor func openInput() async throws {
        let (said, hasSaid) = AsyncStream.makeStream(of: [UInt8].self)
        let child = try await ChildProcess.start(
            ChildProcess.Program("/bin/cat"), input: .open, output: .pipe { hasSaid.yield($0) })
        var answers = said.makeAsyncIterator()
        for word in ["one", "two"] {
            child.write(Array(word.utf8))
            #expect(await answers.next() == Array(word.utf8))
        }
        child.closeInput()
        await child.exited()
        #expect(await child.reap() == .exited(code: 0))
    }
}
