import Foundation
import Glibc
import Synchronization
import TestSupport
import Testing

/// Signals that come while the daemon is only just starting.
@Suite struct DaemonSignalTests {
    /// The daemon with a pipe for its log, which blocks it while the test does not read.
    private final class HeldUp: Sendable {
        private let process = Process()
        private let pipe = Pipe()
        private let text = Mutex("")
        let isReadToEnd = Mutex(false)

        init(_ harness: DaemonHarness) throws {
            // Threads of this process block signals, and a child would inherit that.
            process.executableURL = URL(filePath: "/usr/bin/python3")
            process.arguments = [
                "-c",
                "import os, signal, sys; signal.pthread_sigmask(signal.SIG_SETMASK, []); os.execv(sys.argv[1], sys.argv[1:])",
                DaemonHarness.program.path, "run", "-d", "-c", harness.settingsFile.path,
            ]
            process.standardInput = FileHandle.nullDevice
            process.standardOutput = pipe
            process.standardError = pipe
            try ProgramStarter.run(process)
        }

        /// Bytes that were not read.
        var unread: Int32 {
            var count: Int32 = 0
            let status = ioctl(pipe.fileHandleForReading.fileDescriptor, UInt(FIONREAD), &count)
            return status == 0 ? count : 0
        }

        var output: String { text.withLock { $0 } }

        func read() {
            pipe.fileHandleForReading.readabilityHandler = { [weak self] handle in
                let data = handle.availableData
                if data.isEmpty { handle.readabilityHandler = nil }
                self?.text.withLock { $0 += String(decoding: data, as: UTF8.self) }
            }
        }

        /// Reads when a file is gone, on a thread of its own.
        func read(withoutFile path: String) {
            Thread.detachNewThread {
                while FileManager.default.fileExists(atPath: path) { usleep(1_000) }
                while case let data = self.pipe.fileHandleForReading.availableData, !data.isEmpty {
                    self.text.withLock { $0 += String(decoding: data, as: UTF8.self) }
                }
                self.isReadToEnd.withLock { $0 = true }
            }
        }

        func kill(_ signal: Int32) { if process.isRunning { Glibc.kill(process.processIdentifier, signal) } }

        /// - Returns: the exit status; for a signal its number, negative.
        func end() async throws -> Int32 {
            try await eventually("the daemon ends") { !self.process.isRunning }
            return process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus
        }
    }

    @Test("SIGHUP while the settings are read for the first time neither ends the daemon nor is lost")
    func early() async throws {
        try await DaemonHarness.run { harness in
            // Each line is a warning, and all together are more than a pipe holds: the daemon is held up in the middle of its settings.
            try harness.settings(
                backup: "HOME_SCRIPT =\n" + (0..<1_500).map { "NO_SUCH_KEY_\($0) = 1\n" }.joined())
            let daemon = try HeldUp(harness)
            defer { daemon.kill(SIGKILL) }
            try await eventually("it is held up") { daemon.unread >= 60_000 }
            daemon.kill(SIGHUP)
            daemon.read()
            try await eventually("the settings are reloaded: \(daemon.output.suffix(500))") {
                daemon.output.contains("have been reloaded")
            }
            daemon.kill(SIGTERM)
            #expect(try await daemon.end() == 0, "\(daemon.output.suffix(500))")
        }
    }

    @Test(
        "SIGTERM while the settings are read for the first time ends the daemon at once: there is nothing to stop in order"
    )
    func earlyStop() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings(
                backup: "HOME_SCRIPT =\n" + (0..<1_500).map { "NO_SUCH_KEY_\($0) = 1\n" }.joined())
            let daemon = try HeldUp(harness)
            defer { daemon.kill(SIGKILL) }
            try await eventually("it is held up") { daemon.unread >= 60_000 }
            daemon.kill(SIGTERM)
            #expect(try await daemon.end() == -SIGTERM)
        }
    }

    @Test("a reload and a request during the start wait until the event handlers are loaded and jobs are recovered")
    func reloadDuringStart() async throws {
        try await DaemonHarness.run { harness in
            let handlers = try harness.handlers(
                """
                import os, time
                open("\(harness.path("loading"))", "w").close()
                while not os.path.exists("\(harness.path("go"))") and os.path.exists("\(harness.settingsFile.path)"):
                    time.sleep(0.05)
                """, timeout: "300s")
            try harness.settings(backup: "HOME_SCRIPT =\n\(handlers)")
            let daemon = try harness.start()
            try await eventually("the handlers load") { harness.exists("loading") }
            try await harness.add("3724300")
            let waiting = try [["reload"], ["accounts", "provision", "3724300"]].map { arguments in
                try RunningProgram(DaemonHarness.program, arguments + ["-c", harness.settingsFile.path])
            }
            // Each takes as long as the commands that wait would without waiting.
            for _ in 0..<3 {
                #expect(try await harness.command("status").status == 0)
                #expect(try await harness.command("accounts", "explain", "3724300").status == 0)
            }
            #expect(!daemon.output.contains("have been reloaded") && !daemon.output.contains("claimed"))
            for program in waiting { #expect(program.isRunning, "\(program.output)") }
            try harness.touch("go")
            for program in waiting { #expect(await program.end() == 0, "\(program.output)") }
            daemon.kill(SIGTERM)
            #expect(await daemon.end() == 0)
        }
    }

    @Test("a request for an account that the stop interrupts does not end as if there were nothing to do")
    func provisionAndStop() async throws {
        try await DaemonHarness.run { harness in
            let script = try harness.waiting("home.sh", for: "go")
            try harness.settings(
                service: "STOP_GRACE = 0s", backup: "HOME_SCRIPT = \(script)\nSCRIPT_GRACE = 1s")
            let daemon = try await harness.running()
            try await harness.add("3724300", ["sstProvisioningExecutionDate": "20991231"])
            let command = try RunningProgram(
                DaemonHarness.program, ["accounts", "provision", "3724300", "-c", harness.settingsFile.path])
            try await eventually("the script runs") { harness.numbers("home.sh").count == 1 }
            daemon.kill(SIGTERM)
            let status = await command.end()
            #expect([69, 75].contains(status), "\(status): \(command.output)")
            #expect(!command.output.contains("nothing to do"), "\(command.output)")
            #expect(await daemon.end() == 0)
        }
    }

    @Test("lines of the log that wait for their reader are written before the daemon ends")
    func lastLines() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings()
            let daemon = try HeldUp(harness)
            defer { daemon.kill(SIGKILL) }
            try await eventually("it runs") { try await harness.command("status").output.contains("runs: process") }
            try harness.settings(
                backup: "HOME_SCRIPT =\n" + (0..<600).map { "NO_SUCH_KEY_\($0) = 1\n" }.joined())
            #expect(try await harness.command("reload").status == 0)
            try await eventually("the log is full") { daemon.unread >= 60_000 }
            daemon.read(withoutFile: harness.path("run/control.sock"))
            daemon.kill(SIGTERM)
            #expect(try await daemon.end() == 0)
            try await eventually("all is read") { daemon.isReadToEnd.withLock { $0 } }
            #expect(daemon.output.contains("prov-backup-rsnapshot has stopped"), "\(daemon.output.suffix(500))")
        }
    }

    @Test(
        "reload while the daemon is asked to stop: each command is answered, or told that the daemon has gone; none waits for ever"
    )
    func reloadAndStop() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings()
            let daemon = try HeldUp(harness)
            defer { daemon.kill(SIGKILL) }
            try await eventually("it runs") { try await harness.command("status").output.contains("runs: process") }
            try harness.settings(
                backup: "HOME_SCRIPT =\n" + (0..<600).map { "NO_SUCH_KEY_\($0) = 1\n" }.joined())
            func reload() throws -> RunningProgram {
                try RunningProgram(DaemonHarness.program, ["reload", "-c", harness.settingsFile.path])
            }
            let first = try reload()
            try await eventually("the reading is held up") { daemon.unread >= 60_000 }
            let second = try reload()
            daemon.kill(SIGTERM)
            daemon.read()
            // Which of these is a matter of chance.
            let answers: [Int32: [String]] = [
                0: ["have been reloaded"], 69: ["the daemon stops", "no daemon runs here"],
                75: ["the daemon ended before it had answered", "starts or ends, or its socket is gone"],
            ]
            for command in [first, second] {
                let status = await command.end()
                let words = answers[status] ?? []
                #expect(
                    words.contains(where: command.output.contains), "\(status): \(command.output.suffix(500))")
            }
            #expect(try await daemon.end() == 0, "\(daemon.output.suffix(500))")
        }
    }
}
