import Daemon
import Foundation
import Glibc
import JobCore
import LDAP
import Provisioning
import SystemPackage
import TestSupport
import Testing

@testable import prov_backup_rsnapshot

/// Limits, cancelling and reloading, with jobs of all kinds in one daemon.
@Suite struct DaemonLimitTests {
    @Test("D9 with MAX_JOBS = 1 a request waits while a script runs, and begins afterwards")
    func limit() async throws {
        try await DaemonHarness.run { harness in
            let blocking = try harness.waiting("blocking.sh", for: "go")
            try harness.settings(
                backup: "HOME_SCRIPT =\n[Job blocking]\nSCRIPT = \(blocking)\n[Scripts]\nMAX_JOBS = 1")
            let daemon = try await harness.running()
            let id = try await harness.run("blocking")
            try await eventually("it runs") { harness.numbers("blocking.sh").count == 1 }
            try await harness.add("3724300")
            try await eventually("the request waits") {
                try await harness.command("status").output.contains(" 1 waiting,")
            }
            #expect(try await harness.text("3724300", "sstProvisioningMode") == "add")
            #expect(try await harness.details(id).isOpen)
            try harness.touch("go")
            try await harness.reached("added", "3724300")
            #expect(try await harness.ended(id).result == .success)
            await harness.stop(daemon)
        }
    }

    @Test("SIGHUP: a changed [Job NAME] applies to the next run, and a running one continues with its settings")
    func reload() async throws {
        try await DaemonHarness.run { harness in
            let old = try harness.waiting("old.sh", for: "go", then: "echo old")
            let new = try harness.script("new.sh", "echo new; exit 3")
            func settings(_ script: String, _ more: String = "") throws {
                try harness.settings(backup: "HOME_SCRIPT =\n[Job nightly]\nSCRIPT = \(script)\n\(more)")
            }
            try settings(old)
            let daemon = try await harness.running()
            let first = try await harness.run("nightly")
            try await eventually("it runs") { harness.numbers("old.sh").count == 1 }
            try settings(new, "EXIT_PROFILE = posix\n[Job other]\nSCRIPT = \(new)")
            daemon.kill(SIGHUP)
            try await daemon.says("have been reloaded")
            let second = try await harness.run("nightly")
            let other = try await harness.ended(try await harness.run("other"))
            #expect(other.steps.first?.script?.path == new)
            // One at a time for each name.
            #expect(try await harness.details(second).isOpen)
            try harness.touch("go")
            let ended = try await harness.ended(first)
            #expect(ended.result == .success && ended.steps.first?.script?.path == old, "\(ended)")
            let next = try await harness.ended(second)
            #expect(next.result == .failed && next.steps.first?.script?.path == new, "\(next)")
            await harness.stop(daemon)
        }
    }

    @Test("jobs that wait run as a reload has declared them; those whose [Job NAME] it has removed end as aborted")
    func reloadOfWaitingJobs() async throws {
        try await DaemonHarness.run { harness in
            let old = try harness.script("old.sh", "touch \(harness.path("old"))")
            let new = try harness.script("new.sh", "exit 0")
            func settings(_ window: String, _ jobs: String) throws {
                try harness.settings(backup: "HOME_SCRIPT =\n[Hooks Admin]\nWINDOW = \(window)\n\(jobs)")
            }
            try settings(DaemonHarness.closedWindow, "[Job kept]\nSCRIPT = \(old)\n[Job removed]\nSCRIPT = \(old)")
            let daemon = try await harness.running()
            let (kept, removed) = (try await harness.run("kept"), try await harness.run("removed"))
            try settings("", "[Job kept]\nSCRIPT = \(new)")
            #expect(try await harness.command("reload").status == 0)
            let ended = try await harness.ended(kept)
            #expect(ended.result == .success && ended.steps.first?.script?.path == new, "\(ended)")
            #expect(try await harness.ended(removed).message == "the settings no longer contain it")
            #expect(try await harness.details(removed).result == .aborted)
            #expect(!harness.exists("old"))
            await harness.stop(daemon)
        }
    }

    @Test("commands that wait for a request leave room for others: the 49th ends at once with 75")
    func waitingClients() async throws {
        try await DaemonHarness.run { harness in
            let script = try harness.waiting("home.sh", for: "go")
            try harness.settings(backup: "HOME_SCRIPT = \(script)")
            let daemon = try await harness.running()
            try await harness.add("3724300")
            try await eventually("the script runs") { harness.numbers("home.sh").count == 1 }
            let socket = ControlServer.socketPath(in: FilePath(harness.path("run")))
            let uuid = try await harness.text("3724300", "entryUUID").flatMap { EntryUUID(text: $0) }
            let request = DaemonRequest.provision(
                AccountKey(uuid: try #require(uuid), dn: try DaemonHarness.dn("3724300")))
            @Sendable func ask(timeout: Duration = .seconds(120)) async throws -> Int32? {
                try await ControlClient(socket: socket, timeout: timeout).ask(request, for: Int32?.self)
            }
            try await withThrowingTaskGroup(of: Result<Int32?, any Error>.self) { clients in
                for _ in 0..<66 {
                    clients.addTask { do { return .success(try await ask()) } catch { return .failure(error) } }
                }
                for _ in 0..<66 - 48 {
                    guard case .failure(ControlClientError.refused(let failure))? = try await clients.next() else {
                        Issue.record("a client beyond the limit is not refused")
                        return
                    }
                    #expect(failure.status == .tryAgain, "\(failure)")
                }
                #expect(try await harness.command("status").status == 0)
                let refused = try await harness.command("accounts", "provision", "3724300")
                #expect(refused.status == 75, "\(refused.output)")
                clients.cancelAll()
            }
            try await eventually("clients that have left make room") {
                do {
                    _ = try await ask(timeout: .seconds(10))
                    return false
                } catch ControlClientError.timedOut {
                    return true
                } catch ControlClientError.refused { return false }
            }
            async let reply = ask()
            try harness.touch("go")
            _ = try await reply
            await harness.stop(daemon)
        }
    }

    @Test("jobs cancel ends a hanging home script, a running job and one that waits; nothing is left running")
    func cancel() async throws {
        try await DaemonHarness.run { harness in
            let home = try harness.waiting("home.sh", for: "never")
            let hanging = try harness.waiting("hanging.sh", for: "never")
            try harness.settings(backup: "HOME_SCRIPT = \(home)\n[Job hanging]\nSCRIPT = \(hanging)")
            let daemon = try await harness.running()
            try await harness.add("3724300")
            let running = try await harness.run("hanging")
            try await eventually("both run") {
                harness.numbers("home.sh").count == 1 && harness.numbers("hanging.sh").count == 1
            }
            let waiting = try await harness.run("hanging")
            let account = try #require(try await harness.newest("Provisioning", of: "3724300")).id.number
            for id in [waiting, running, account] {
                let canceled = try await harness.command("jobs", "cancel", "\(id)")
                #expect(canceled.status == 0, "\(canceled.output)")
                let ended = try await harness.ended(id)
                #expect(ended.result == .aborted, "\(ended)")
            }
            #expect(try await harness.details(waiting).attempts.isEmpty)
            #expect(!(harness.numbers("home.sh") + harness.numbers("hanging.sh")).contains(where: isRunning))
            try await eventually("the entry says so") {
                try await harness.text("3724300", "sstProvisioningReturnValue") ?? "0" != "0"
            }
            let again = try await harness.command("jobs", "cancel", "\(running)")
            #expect(again.status != 0 && again.output.contains("has ended already"), "\(again.output)")
            await harness.stop(daemon)
        }
    }

    @Test("jobs show --follow shows the output of a running job as it comes, and ends with it")
    func follow() async throws {
        try await DaemonHarness.run { harness in
            let slow = try harness.waiting(
                "slow.sh", for: "go",
                then:
                    "echo goes on; touch \(harness.path("on")); while [ ! -e \(harness.path("end")) ] && [ -e \"$0\" ]; do sleep 0.05; done"
            )
            try harness.settings(backup: "HOME_SCRIPT =\n[Job slow]\nSCRIPT = \(slow)")
            let daemon = try await harness.running()
            let id = try await harness.run("slow")
            let shown = try RunningProgram(
                DaemonHarness.program, ["jobs", "show", "\(id)", "--follow", "-c", harness.settingsFile.path])
            try await shown.says("waits")
            #expect(!shown.output.contains("goes on"))
            try harness.touch("go")
            try await shown.says("goes on")
            #expect(shown.isRunning)
            try harness.touch("end")
            #expect(await shown.end() == 0)
            #expect(shown.output.contains("job \(id) slow slow: success"), "\(shown.output)")
            await harness.stop(daemon)
        }
    }
}
