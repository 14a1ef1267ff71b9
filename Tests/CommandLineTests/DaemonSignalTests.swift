import Foundation
import Glibc
import Synchronization
import TestSupport
import Testing

/// Signals that come while the daemon is only just starting.
@Suite struct DaemonSignalTests {
    /// The daemon with a pipe for its words, which holds it up when nobody reads.
    private final class HeldUp: Sendable {
        private let process = Process()
        private let pipe = Pipe()
        private let text = Mutex("")

        init(_ bench: DaemonBench) throws {
            // Threads of this process block signals, and a child would inherit that.
            process.executableURL = URL(filePath: "/usr/bin/python3")
            process.arguments = [
                "-c",
                "import os, signal, sys; signal.pthread_sigmask(signal.SIG_SETMASK, []); os.execv(sys.argv[1], sys.argv[1:])",
                DaemonBench.program.path, "run", "-d", "-c", bench.settingsFile.path,
            ]
            process.standardInput = FileHandle.nullDevice
            process.standardOutput = pipe
            process.standardError = pipe
            try process.run()
        }

        /// Bytes that nobody has read.
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

        func kill(_ signal: Int32) { if process.isRunning { Glibc.kill(process.processIdentifier, signal) } }

        /// - Returns: the exit status; for a signal its number, negative.
        func end() async throws -> Int32 {
            try await eventually("the daemon ends") { !self.process.isRunning }
            return process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus
        }
    }

    @Test("SIGHUP while the settings are read for the first time neither ends the daemon nor is lost")
    func early() async throws {
        try await DaemonBench.run { bench in
            // Each line is a warning, and all together are more than a pipe holds: the daemon is held up in the middle of its settings.
            try bench.settings(
                backup: "HOME_SCRIPT =\n" + (0..<1_500).map { "NO_SUCH_KEY_\($0) = 1\n" }.joined())
            let daemon = try HeldUp(bench)
            defer { daemon.kill(SIGKILL) }
            try await eventually("it is held up") { daemon.unread >= 60_000 }
            daemon.kill(SIGHUP)
            daemon.read()
            try await eventually("the settings are read anew: \(daemon.output.suffix(500))") {
                daemon.output.contains("read anew")
            }
            daemon.kill(SIGTERM)
            #expect(try await daemon.end() == 0, "\(daemon.output.suffix(500))")
        }
    }
}
