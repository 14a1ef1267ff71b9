import Sandbox
import Foundation
import Glibc
import TestSupport
import Testing

/// Services that the daemon depends on stop in the middle. Time limits of scripts still hold, commands are still answered, and
/// the daemon goes on afterwards.
@Suite struct StallTests {
    /// A `[Job slow]` that would run for ever, with a time limit.
    private static func slow(_ harness: DaemonHarness) throws -> String {
        let script = try harness.script("slow.sh", "echo $$ >> \(harness.path("slow.sh.pids"))\nexec sleep 100000")
        return "[Job slow]\nSCRIPT = \(script)\nTIMEOUT = 5s"
    }

    /// Expects that commands are answered, and that a script is ended by its time limit.
    /// - Parameter serverIsAway: then `status` is asked when the daemon has noticed that, since before it waits for the server.
    private static func expectLimits(
        _ harness: DaemonHarness, serverIsAway: Bool = false, sourceLocation: SourceLocation = #_sourceLocation
    )
        async throws
    {
        let before = harness.numbers("slow.sh").count
        let job = try await harness.ask("slow", sourceLocation: sourceLocation)
        try await eventually("the script runs", sourceLocation: sourceLocation) {
            harness.numbers("slow.sh").count > before
        }
        #expect(try await harness.result(of: job) == "failed", sourceLocation: sourceLocation)
        let script = try #require(harness.numbers("slow.sh").last)
        #expect(!isRunning(script), sourceLocation: sourceLocation)
        if serverIsAway {
            try await eventually("health says that the server is away", sourceLocation: sourceLocation) {
                let health = try await DaemonHarness.outcome(["health", "-c", harness.settingsFile.path])
                return health.status == 2 && health.output.contains("the LDAP server")
            }
        }
        #expect(try await harness.json("status").first?["daemon"]["pid"].number != nil, sourceLocation: sourceLocation)
    }

    @Test(
        "the LDAP server stops while a home script runs: the script's time limit holds, and the result is written later"
    )
    func stoppedServer() async throws {
        try await DaemonHarness.run { harness in
            // It stops the server itself, so that this comes before its time limit.
            let home = try harness.script(
                "home.sh",
                """
                kill -STOP \(harness.sandbox.processID)
                echo $$ >> \(harness.path("home.sh.pids"))
                exec sleep 100000
                """)
            try harness.settings(
                database: "OPERATION_TIMEOUT = 1s", service: "MAX_ATTEMPTS = 1",
                backup: "HOME_SCRIPT = \(home)\nSCRIPT_TIMEOUT = 5s\n\(try Self.slow(harness))")
            let daemon = try await harness.serving()
            try await harness.add("3724300")
            try await eventually("the home script runs") { harness.numbers("home.sh").count == 1 }
            let script = try #require(harness.numbers("home.sh").first)
            try await eventually("the time limit ends it") { !isRunning(script) }
            try await Self.expectLimits(harness, serverIsAway: true)
            harness.sandbox.resume()
            try await harness.returned("5", "3724300")
            await harness.stop(daemon)
        }
    }

    @Test("status is answered although the LDAP server has just stopped")
    func statusOfStoppedServer() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings(database: "OPERATION_TIMEOUT = 1s")
            let daemon = try await harness.serving()
            harness.sandbox.pause()
            defer { harness.sandbox.resume() }
            let status = try RunningProgram(
                DaemonHarness.program, ["status", "--json", "-c", harness.settingsFile.path])
            try await eventually("status is answered", within: .seconds(45)) { !status.isRunning }
            #expect(await status.end() == 0, "\(status.output)")
            #expect(try JSON.lines(status.output).first?["daemon"]["pid"].number == Int(daemon.id))
            await harness.stop(daemon)
        }
    }

    @Test("the LDAP server sends only a part of a message: time limits apply, and a new connection is made")
    func halfMessage() async throws {
        try await DaemonHarness.run { harness in
            let proxy = try Self.proxy(harness)
            defer { proxy.kill(SIGKILL) }
            try await proxy.says("port ")
            let port = try #require(proxy.output.firstMatch(of: #/port (\d+)/#)).output.1
            try harness.settings(
                database: """
                    SERVER = ldap://127.0.0.1:\(port)
                    CONNECT_TIMEOUT = 1s
                    OPERATION_TIMEOUT = 1s
                    RELIST_INTERVAL = 2s
                    """, backup: "HOME_SCRIPT =\n\(try Self.slow(harness))")
            let daemon = try await harness.serving()
            try harness.touch("cut")
            try await harness.add("3724300")
            try await proxy.says("cut in a message")
            try await Self.expectLimits(harness, serverIsAway: true)
            try FileManager.default.removeItem(atPath: harness.path("cut"))
            try await harness.reached("added", "3724300")
            await harness.stop(daemon)
        }
    }

    /// Forwards connections to the sandbox. While there is a file `cut`, it forwards only the first bytes of the server's next
    /// message and then nothing more on that connection, which stays open.
    private static func proxy(_ harness: DaemonHarness) throws -> RunningProgram {
        let socket = try #require(harness.sandbox.uri.dropFirst("ldapi://".count).removingPercentEncoding)
        return try RunningProgram(
            URL(filePath: "/usr/bin/python3"),
            [
                "-c",
                """
                import os, socket, sys, threading, time

                def pump(source, target, cuts):
                    while data := source.recv(65536):
                        if cuts and os.path.exists(sys.argv[2]):
                            target.sendall(data[:5])
                            print("cut in a message", flush=True)
                            time.sleep(100000)
                        target.sendall(data)
                    target.shutdown(socket.SHUT_RDWR)

                listener = socket.create_server(("127.0.0.1", 0))
                print("port", listener.getsockname()[1], flush=True)
                while True:
                    client, _ = listener.accept()
                    server = socket.socket(socket.AF_UNIX)
                    server.connect(sys.argv[1])
                    threading.Thread(target=pump, args=(client, server, False), daemon=True).start()
                    threading.Thread(target=pump, args=(server, client, True), daemon=True).start()
                """, socket, harness.path("cut"),
            ])
    }

    @Test(
        "the daemon's log is no longer read: time limits apply, requests are processed, and the daemon can be stopped")
    func fullLog() async throws {
        try await DaemonHarness.run { harness in
            let log = harness.path("log")
            #expect(mkfifo(log, 0o600) == 0)
            let descriptor = open(log, O_RDWR | O_NONBLOCK | O_CLOEXEC)
            defer { close(descriptor) }
            try harness.settings(backup: "HOME_SCRIPT =\n\(try Self.slow(harness))")
            let daemon = try await harness.serving(by: ["/bin/sh", "-c", "exec \"$@\" 2>\(log)", "sh"])
            while write(descriptor, "x", 1) == 1 {}
            #expect(errno == EAGAIN)
            try await harness.add("3724300")
            try await Self.expectLimits(harness)
            try await harness.reached("added", "3724300")
            await harness.stop(daemon)
        }
    }

    @Test(
        "a lookup in the user database hangs: time limits hold, and the account goes on when the lookup ends",
        .enabled(if: geteuid() == 0, "needs root: it mounts"))
    func stalledLookup() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings(
                service: "MAX_ATTEMPTS = 1",
                backup: "HOME_SCRIPT =\nREQUIRE_SYSTEM_USER = yes\n\(try Self.slow(harness))"
            )
            let daemon = try await harness.serving(by: ["/usr/bin/unshare", "--mount"])
            // A process that opens it for reading waits for a writer.
            let users = harness.path("passwd")
            #expect(mkfifo(users, 0o644) == 0)
            func mount(_ arguments: String...) async throws {
                let ended = try RunningProgram(
                    URL(filePath: "/usr/bin/nsenter"), ["--target", "\(daemon.id)", "--mount"] + arguments)
                #expect(await ended.end() == 0, "\(ended.output)")
            }
            try await mount("mount", "--bind", users, "/etc/passwd")
            try await harness.add("3724300")
            try await harness.reached("adding", "3724300")
            try await Self.expectLimits(harness)
            #expect(try await harness.text("3724300", "sstProvisioningReturnValue") == nil)
            try await mount("umount", "--lazy", "/etc/passwd")
            // Ends the open call that still waits: the database is empty.
            close(open(users, O_WRONLY | O_NONBLOCK | O_CLOEXEC))
            try await harness.returned("2", "3724300")
            await harness.stop(daemon)
        }
    }
}
