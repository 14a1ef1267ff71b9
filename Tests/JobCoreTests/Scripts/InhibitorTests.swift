import Foundation
import Glibc
import JobCore
import Synchronization
import SystemPackage
import TestSupport
import Testing

extension Processes {
    /// Specification: rows.md L3, with a fake systemd-inhibit, and with the real one and a fake logind.
    @Suite struct Inhibiting {
        let directory: ScriptDirectory
        private let notices = Notices()
        init() throws { directory = try ScriptDirectory() }

        private final class Notices: Sendable {
            private let list = Mutex<[CoreNotice]>([])
            var all: [CoreNotice] { list.withLock { $0 } }
            func add(_ notice: CoreNotice) { list.withLock { $0.append(notice) } }
        }

        private func inhibitor(
            _ program: FilePath, timeout: Duration = .seconds(60), leavingTime: Duration = .seconds(60)
        ) -> Inhibitor {
            let notices = notices
            return Inhibitor(program: program, who: "jobcore-test", timeout: timeout, leavingTime: leavingTime) {
                notices.add($0)
            }
        }

        private var record: FilePath { directory.path.appending("record") }

        private func lines() throws -> [String] {
            guard FileManager.default.fileExists(atPath: record.string) else { return [] }
            return try String(contentsOfFile: record.string, encoding: .utf8).split(separator: "\n").map(String.init)
        }

        /// Records its arguments up to the command, runs the command, and records its end.
        private func standIn() throws -> FilePath {
            try directory.script(
                """
                echo "begin $1 $2 $3 $4" >> \(record)
                shift 4
                "$@"
                echo "end $?" >> \(record)
                """, name: "inhibit.sh")
        }

        @Test(
            "L3: one inhibitor is held from the first job's begin to the last one's end, with what, mode, who and why")
        func held() async throws {
            let inhibitor = inhibitor(try standIn())
            let begin = "begin --what=sleep:shutdown --mode=block --who=jobcore-test --why=job one"
            await inhibitor.hold(for: "job one")
            #expect(try lines() == [begin])
            await inhibitor.hold(for: "job two")
            await inhibitor.release()
            #expect(try lines() == [begin])
            await inhibitor.release()
            try await eventually("the inhibitor is released") { try lines() == [begin, "end 0"] }
            await inhibitor.hold(for: "job three")
            await inhibitor.release()
            try await eventually("the second one is released") { try lines().count == 4 }
            #expect(notices.all == [])
        }

        @Test("L3: of 50 jobs that begin and end at random times, every inhibitor that was taken is released")
        func many() async throws {
            let inhibitor = inhibitor(try standIn())
            await withTaskGroup(of: Void.self) { tasks in
                for _ in 0..<50 {
                    tasks.addTask {
                        await inhibitor.hold(for: "one of many")
                        await Task.yield()
                        await inhibitor.release()
                    }
                }
            }
            #expect(try !lines().isEmpty)
            try await eventually("every one is released") {
                let lines = try lines()
                return lines.count { $0.hasPrefix("begin ") } == lines.count { $0 == "end 0" }
            }
            try await eventually("no process is left") { try processes(carrying: record.string) == [] }
            #expect(notices.all == [])
        }

        @Test("L3: without systemd-inhibit one line says so, once, and jobs run")
        func missing() async throws {
            let gone = directory.path.appending("gone")
            let inhibitor = inhibitor(gone)
            for _ in 0..<3 {
                await inhibitor.hold(for: "a job")
                await inhibitor.release()
            }
            try await eventually { notices.all.count == 1 }
            #expect(notices.all.first?.text.contains(gone.string) == true)
            #expect(notices.all.first?.text.contains("not inhibited") == true)
            #expect(notices.all.count { $0.text.contains("\n") } == 0)
        }

        @Test("L3: if logind refuses, one line contains the message of systemd-inhibit, and jobs run")
        func refused() async throws {
            let program = try directory.script("echo 'Failed to inhibit: Access denied' >&2; exit 1")
            let inhibitor = inhibitor(program)
            for _ in 0..<3 {
                await inhibitor.hold(for: "a job")
                await inhibitor.release()
            }
            try await eventually { notices.all.count == 1 }
            #expect(notices.all.first?.text.contains("Failed to inhibit: Access denied") == true)
        }

        @Test("L3: after a refusal it is tried again by the next job that begins while none runs, not by each job")
        func triedSeldom() async throws {
            let program = try directory.script("echo tried >> \(record); exit 1")
            let inhibitor = inhibitor(program)
            for _ in 0..<3 { await inhibitor.hold(for: "a job") }
            #expect(try lines().count == 1)
            for _ in 0..<3 { await inhibitor.release() }
            await inhibitor.hold(for: "a job")
            await inhibitor.release()
            #expect(try lines().count == 2)
        }

        @Test(
            "L3: if logind does not answer, a job waits no longer than the timeout, and no process is left")
        func silent() async throws {
            let program = try directory.script("echo $$ > \(record).x; mv \(record).x \(record); exec sleep 1000")
            let inhibitor = inhibitor(program, timeout: .milliseconds(300), leavingTime: .milliseconds(300))
            await inhibitor.hold(for: "a job")
            #expect(notices.all.count == 1)
            #expect(notices.all.first?.text.contains("has not answered") == true)
            let process = try await processNumber(in: record)
            #expect(isAlive(process))
            await inhibitor.release()
            try await eventually("it ends") { !isAlive(process) }
            #expect(notices.all.count == 1)
        }

        @Test("L3: an inhibitor that is lost while it is held is reported once, and the next job takes another")
        func lost() async throws {
            let program = try directory.script(
                "echo $$ > \(record).x; mv \(record).x \(record); shift 4; exec \"$@\"")
            let inhibitor = inhibitor(program)
            await inhibitor.hold(for: "a job")
            #expect(kill(try await processNumber(in: record), SIGKILL) == 0)
            try await eventually { notices.all.count == 1 }
            #expect(unlink(record.string) == 0)
            try await eventually {
                await inhibitor.hold(for: "a job")
                return FileManager.default.fileExists(atPath: record.string)
            }
            let next = try await processNumber(in: record)
            #expect(isAlive(next))
            try await eventually("it is released") {
                await inhibitor.release()
                return !isAlive(next)
            }
            #expect(notices.all.count == 1)
        }

        /// What the test with a real systemd-inhibit needs, by name, as far as it is not there.
        private static var missingPrograms: [String] {
            let programs = ["/usr/bin/systemd-inhibit", "/usr/bin/dbus-daemon", "/usr/bin/python3"]
            let modules = ["dbus/__init__.py", "gi/__init__.py"].map { "/usr/lib/python3/dist-packages/" + $0 }
            return (programs + modules).filter { access($0, R_OK) != 0 }
        }

        @Test(
            "L3: systemd-logind is told by the real systemd-inhibit, and hears of the end",
            .enabled(if: missingPrograms.isEmpty, "needs \(missingPrograms.joined(separator: ", "))"))
        func real() async throws {
            let socket = directory.path.appending("bus")
            let environment = ["PATH": "/usr/bin:/bin", "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=\(socket)"]
            let bus = ScriptInvocation.test(
                "/usr/bin/dbus-daemon", ["--session", "--nofork", "--nopidfile", "--address=unix:path=\(socket)"],
                environment: environment)
            let logind = ScriptInvocation.test(
                try directory.script(Self.logind, name: "logind.py"), [record.string], environment: environment)
            let program = try directory.script(
                "export DBUS_SYSTEM_BUS_ADDRESS=unix:path=\(socket); exec /usr/bin/systemd-inhibit \"$@\"",
                name: "inhibit.sh")
            let running = Task { try await ScriptRunner().run(bus) }
            try await eventually("dbus-daemon does not listen") {
                FileManager.default.fileExists(atPath: socket.string)
            }
            let answering = Task { try await ScriptRunner().run(logind) }
            try await eventually("the test's logind is not ready") { try lines() == ["ready"] }

            let inhibitor = inhibitor(program)
            await inhibitor.hold(for: "backup daily")
            #expect(try lines() == ["ready", "sleep:shutdown jobcore-test block backup daily"])
            await inhibitor.release()
            try await eventually("logind has not heard of the end") { try lines().last == "released" }
            #expect(notices.all == [])

            answering.cancel()
            #expect(try await answering.value.leftovers == [])
            // Now logind's name has no owner.
            await inhibitor.hold(for: "another")
            await inhibitor.release()
            try await eventually { notices.all.count == 1 }
            running.cancel()
            #expect(try await running.value.leftovers == [])
        }

        /// As much of systemd-logind as takes inhibitors: each is a descriptor, and ends when its last copy is closed.
        private static let logind = #"""
            #!/usr/bin/python3
            import os, sys
            import dbus, dbus.mainloop.glib, dbus.service
            from gi.repository import GLib

            def say(text):
                with open(sys.argv[1], "a") as record:
                    record.write(text + "\n")

            class Manager(dbus.service.Object):
                @dbus.service.method("org.freedesktop.login1.Manager", in_signature="ssss", out_signature="h")
                def Inhibit(self, what, who, why, mode):
                    say(f"{what} {who} {mode} {why}")
                    reading, writing = os.pipe()
                    GLib.io_add_watch(reading, GLib.IO_HUP, self.released)
                    descriptor = dbus.types.UnixFd(writing)
                    os.close(writing)
                    return descriptor

                def released(self, reading, condition):
                    os.close(reading)
                    say("released")
                    return False

            dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
            bus = dbus.SystemBus()
            name = dbus.service.BusName("org.freedesktop.login1", bus)
            manager = Manager(bus, "/org/freedesktop/login1")
            say("ready")
            GLib.MainLoop().run()
            """#
    }
}
