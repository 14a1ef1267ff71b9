import Foundation
import Glibc
import JobCore
import TestSupport
import Testing

@testable import prov_backup_rsnapshot

/// Limits, cancelling and reloading, with jobs of all kinds in one daemon.
@Suite struct DaemonLimitTests {
    @Test("D9 with MAX_JOBS = 1 a wish waits while a script runs, and goes on afterwards")
    func limit() async throws {
        try await DaemonBench.run { bench in
            let blocking = try bench.waiting("blocking.sh", for: "go")
            try bench.settings(
                backup: "HOME_SCRIPT =\n[Job blocking]\nSCRIPT = \(blocking)\n[Scripts]\nMAX_JOBS = 1")
            let daemon = try await bench.running()
            let id = try await bench.run("blocking")
            try await eventually("it runs") { bench.numbers("blocking.sh").count == 1 }
            try await bench.add("3724300")
            try await eventually("the wish waits") {
                try await bench.command("status").output.contains(" 1 waiting,")
            }
            #expect(try await bench.text("3724300", "sstProvisioningMode") == "add")
            #expect(try await bench.details(id).isOpen)
            try bench.touch("go")
            try await bench.reached("added", "3724300")
            #expect(try await bench.ended(id).result == .success)
            await bench.stop(daemon)
        }
    }

    @Test("SIGHUP: a changed [Job NAME] holds for the next run, and a running one goes on as it began")
    func reload() async throws {
        try await DaemonBench.run { bench in
            let old = try bench.waiting("old.sh", for: "go", then: "echo old")
            let new = try bench.script("new.sh", "echo new; exit 3")
            func settings(_ script: String, _ more: String = "") throws {
                try bench.settings(backup: "HOME_SCRIPT =\n[Job nightly]\nSCRIPT = \(script)\n\(more)")
            }
            try settings(old)
            let daemon = try await bench.running()
            let first = try await bench.run("nightly")
            try await eventually("it runs") { bench.numbers("old.sh").count == 1 }
            try settings(new, "EXIT_PROFILE = posix\n[Job other]\nSCRIPT = \(new)")
            daemon.kill(SIGHUP)
            try await daemon.says("read anew")
            let second = try await bench.run("nightly")
            let other = try await bench.ended(try await bench.run("other"))
            #expect(other.steps.first?.script?.path == new)
            // One at a time for each name.
            #expect(try await bench.details(second).isOpen)
            try bench.touch("go")
            let ended = try await bench.ended(first)
            #expect(ended.result == .success && ended.steps.first?.script?.path == old, "\(ended)")
            let next = try await bench.ended(second)
            #expect(next.result == .failed && next.steps.first?.script?.path == new, "\(next)")
            await bench.stop(daemon)
        }
    }

    @Test("jobs cancel ends a hanging home script, a running job and one that waits; nothing is left running")
    func cancel() async throws {
        try await DaemonBench.run { bench in
            let home = try bench.waiting("home.sh", for: "never")
            let hanging = try bench.waiting("hanging.sh", for: "never")
            try bench.settings(backup: "HOME_SCRIPT = \(home)\n[Job hanging]\nSCRIPT = \(hanging)")
            let daemon = try await bench.running()
            try await bench.add("3724300")
            let running = try await bench.run("hanging")
            try await eventually("both run") {
                bench.numbers("home.sh").count == 1 && bench.numbers("hanging.sh").count == 1
            }
            let waiting = try await bench.run("hanging")
            let account = try #require(try await bench.newest("Provisioning", of: "3724300")).id.number
            for id in [waiting, running, account] {
                let canceled = try await bench.command("jobs", "cancel", "\(id)")
                #expect(canceled.status == 0, "\(canceled.output)")
                let ended = try await bench.ended(id)
                #expect(ended.result == .aborted, "\(ended)")
            }
            #expect(try await bench.details(waiting).attempts.isEmpty)
            #expect(!(bench.numbers("home.sh") + bench.numbers("hanging.sh")).contains(where: isRunning))
            try await eventually("the entry says so") {
                try await bench.text("3724300", "sstProvisioningReturnValue") ?? "0" != "0"
            }
            let again = try await bench.command("jobs", "cancel", "\(running)")
            #expect(again.status != 0 && again.output.contains("has ended already"), "\(again.output)")
            await bench.stop(daemon)
        }
    }

    @Test("jobs show --follow shows the output of a running job as it comes, and ends with it")
    func follow() async throws {
        try await DaemonBench.run { bench in
            let slow = try bench.waiting(
                "slow.sh", for: "go",
                then:
                    "echo goes on; touch \(bench.path("on")); while [ ! -e \(bench.path("end")) ] && [ -e \"$0\" ]; do sleep 0.05; done"
            )
            try bench.settings(backup: "HOME_SCRIPT =\n[Job slow]\nSCRIPT = \(slow)")
            let daemon = try await bench.running()
            let id = try await bench.run("slow")
            let shown = try RunningProgram(
                DaemonBench.program, ["jobs", "show", "\(id)", "--follow", "-c", bench.settingsFile.path])
            try await shown.says("waits")
            #expect(!shown.output.contains("goes on"))
            try bench.touch("go")
            try await shown.says("goes on")
            #expect(shown.isRunning)
            try bench.touch("end")
            #expect(await shown.end() == 0)
            #expect(shown.output.contains("job \(id) slow slow: success"), "\(shown.output)")
            await bench.stop(daemon)
        }
    }
}
