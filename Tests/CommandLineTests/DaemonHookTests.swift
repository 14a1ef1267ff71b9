import Foundation
import Glibc
import JobCore
import TestSupport
import Testing

@testable import prov_backup_rsnapshot

/// Pre and post scripts around provisioning in the real daemon.
@Suite struct DaemonHookTests {
    private static func hooks(_ bench: DaemonBench) -> String {
        """
        HOME_SCRIPT =
        [Hooks Provisioning]
        ENABLED = yes
        DIRECTORY = \(bench.path("hooks"))
        SKIP_ON_PRE_FAILURE = yes
        """
    }

    @Test(
        "D4 D8 a pre script that fails leaves the wish undone: entry and report say why, and there is one alert, in the log and in the mail about the job"
    )
    func failingPre() async throws {
        try await DaemonBench.run { bench in
            _ = try bench.script("hooks/pre_script.sh", "echo no room; exit 7")
            _ = try bench.script("hooks/post_script.sh", "echo post $2 $3; exit 9")
            try bench.settings(backup: Self.hooks(bench))
            let daemon = try await bench.running()
            try bench.settings(backup: "\(Self.hooks(bench))\n\(bench.mailSection())")
            daemon.kill(SIGHUP)
            try await daemon.says("the settings have been read anew")
            try await bench.add("3724300")
            try await eventually("the entry says that it failed") {
                try await bench.text("3724300", "sstProvisioningReturnValue") ?? "0" != "0"
            }
            #expect(!FileManager.default.fileExists(atPath: bench.home("3724300").path))
            let details = try await bench.ended(
                try #require(try await bench.newest("Provisioning", of: "3724300")).id)
            #expect(details.result == .wrongConfiguration || details.result == .missed, "\(details)")
            #expect(
                details.reportText.contains("pre_script.sh") && details.reportText.contains("7"),
                "\(details.report)")
            #expect(details.steps.map(\.name).contains("pre script"), "\(details.steps.map(\.name))")

            try await eventually("a mail is sent") { try !bench.mails().isEmpty }
            let alert = "the scripts around job \(details.id)"
            try await daemon.says(alert)
            // Another job's whole life later there is no second one.
            _ = try bench.script("hooks/pre_script.sh", "exit 0")
            _ = try bench.script("hooks/post_script.sh", "exit 0")
            try await bench.add("3724301")
            try await bench.reached("added", "3724301")
            let sent = try bench.mails()
            #expect(sent.count == 1 && sent.joined().contains("To: admin@example.org"), "\(sent)")
            let mail = sent.joined()
            #expect(mail.contains("pre_script.sh") && mail.contains("post_script.sh"), "\(mail)")
            #expect(mail.contains("job \(details.id), provisioning add 3724300"), "\(mail)")
            #expect(daemon.output.ranges(of: alert).count == 1)
            await bench.stop(daemon)
        }
    }

    @Test(
        "D4 a missing pre script with SKIP_ON_PRE_FAILURE is wrong configuration, named with its hint; the wish is not carried out"
    )
    func missingPre() async throws {
        try await DaemonBench.run { bench in
            _ = try bench.script("hooks/post_script.sh", "exit 0")
            try bench.settings(backup: Self.hooks(bench))
            let daemon = try await bench.running()
            try await bench.add("3724300")
            try await eventually("the entry says that it failed") {
                try await bench.text("3724300", "sstProvisioningReturnValue") ?? "0" != "0"
            }
            let details = try await bench.ended(
                try #require(try await bench.newest("Provisioning", of: "3724300")).id)
            #expect(details.result == .wrongConfiguration, "\(details)")
            #expect(details.reportText.contains(bench.path("hooks/pre_script.sh")), "\(details.report)")
            #expect(!FileManager.default.fileExists(atPath: bench.home("3724300").path))
            await bench.stop(daemon)
        }
    }
}
