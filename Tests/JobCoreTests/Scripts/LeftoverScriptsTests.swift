import Foundation
import Glibc
import JobCore
import SystemPackage
import TestSupport
import Testing

extension Processes {
    /// Specification: rows.md D13, after the end of the daemon: processes that it could not end itself.
    @Suite struct Leftovers {
        let directory: ScriptDirectory
        init() throws { directory = try ScriptDirectory() }

        private var socket: String { directory.path.appending("report.sock").string }

        /// Starts a shell without a parent that waits for it, like one of a daemon that was killed.
        private func start(_ body: String, _ environment: [String: String]) throws -> Process {
            let process = Process()
            process.executableURL = URL(filePath: "/bin/sh")
            process.arguments = ["-c", body]
            process.environment = environment.merging(["PATH": "/usr/bin:/bin"]) { own, _ in own }
            process.standardInput = FileHandle.nullDevice
            try process.run()
            return process
        }

        /// Waits for their end without holding a thread that other tests need.
        private func gone(_ processes: [Process]) async throws {
            for process in processes { try await eventually("\(process) is there") { !process.isRunning } }
        }

        @Test(
            "D13: what an earlier daemon left running is ended and named, also what ignores SIGTERM or made a session of its own"
        )
        func ended() async throws {
            let environment = ["PROV_REPORT_SOCKET": socket, "DIR": directory.path.string]
            let plain = try start("echo > $DIR/plain; exec sleep 1000", environment)
            let stubborn = try start(
                "trap '' TERM; echo > $DIR/stubborn; while :; do sleep 0.1; done", environment)
            let other = try start(
                ScriptDirectory.note + "setsid sleep 1000 & runs sleep $!; note other $!", environment)
            let away = try await processNumber(in: directory.path.appending("other"))
            try await eventually("they run") {
                ["plain", "stubborn"].allSatisfy { access(directory.path.appending($0).string, F_OK) == 0 }
            }
            let ended = await LeftoverProcesses.end(reportingTo: socket, grace: .milliseconds(300))
            try await gone([plain, stubborn, other])
            #expect(ended.contains { $0.hasSuffix("(\(plain.processIdentifier))") }, "\(ended)")
            #expect(ended.contains("sh (\(stubborn.processIdentifier))"), "\(ended)")
            #expect(ended.contains("sleep (\(away))"), "\(ended)")
            #expect(stubborn.terminationReason == .uncaughtSignal && stubborn.terminationStatus == SIGKILL)
            #expect(try processes(carrying: "DIR=\(directory.path)") == [])
            let again = await LeftoverProcesses.end(reportingTo: socket, grace: .milliseconds(300))
            #expect(Set(again).isDisjoint(with: ended), "\(again)")
        }

        @Test(
            "D13: scripts of another instance are left alone, be its socket's path the beginning of ours or the other way round"
        )
        func others() async throws {
            let others =
                try [socket + "2", String(socket.dropLast()), "/" + socket].map {
                    try start("exec sleep 1000", ["PROV_REPORT_SOCKET": $0])
                } + [try start("exec sleep 1000", ["XPROV_REPORT_SOCKET": "x", "REPORT_SOCKET": socket])]
            // Those of other tests that belong to no instance may be among them.
            let ended = await LeftoverProcesses.end(reportingTo: socket, grace: .milliseconds(300))
            for process in others {
                #expect(!ended.contains { $0.contains("(\(process.processIdentifier))") })
                #expect(process.isRunning)
                // The thread that starts them has SIGTERM blocked, and they inherit that.
                kill(process.processIdentifier, SIGKILL)
            }
            try await gone(others)
        }
    }
}
