import Foundation
import Glibc
import JobCore
import TestSupport
import Testing

@testable import prov_backup_rsnapshot

/// Pre and post scripts around provisioning in the real daemon.
@Suite struct DaemonHookTests {
    private static func hooks(_ harness: DaemonHarness) -> String {
        """
        HOME_SCRIPT =
        [Hooks Provisioning]
        ENABLED = yes
        DIRECTORY = \(harness.path("hooks"))
        SKIP_ON_PRE_FAILURE = yes
        """
    }

    @Test(
        "D4 D8 a pre script that fails fails the request: entry and report contain the reason, and there is one alert, in the log and in the mail about the job"
    )
    func failingPre() async throws {
        try await DaemonHarness.run { harness in
            _ = try harness.script("hooks/pre_script.sh", "echo no room; exit 7")
            _ = try harness.script("hooks/post_script.sh", "echo post $2 $3; exit 9")
            try harness.settings(backup: Self.hooks(harness))
            let daemon = try await harness.running()
            try harness.settings(backup: "\(Self.hooks(harness))\n\(harness.mailSection())")
            daemon.kill(SIGHUP)
            try await daemon.says("the settings have been reloaded")
            try await harness.add("3724300")
            try await eventually("the entry says that it failed") {
                try await harness.text("3724300", "sstProvisioningReturnValue") ?? "0" != "0"
            }
            #expect(!FileManager.default.fileExists(atPath: harness.home("3724300").path))
            let details = try await harness.ended(
                try #require(try await harness.newest("Provisioning", of: "3724300")).id)
            #expect(details.result == .wrongConfiguration || details.result == .missed, "\(details)")
            #expect(
                details.reportText.contains("pre_script.sh") && details.reportText.contains("7"),
                "\(details.report)")
            #expect(details.steps.map(\.name).contains("pre script"), "\(details.steps.map(\.name))")

            try await eventually("a mail is sent") { try !harness.mails().isEmpty }
            let alert = "pre or post scripts of job \(details.id)"
            try await daemon.says(alert)
            // Another job's whole life later there is no second one.
            _ = try harness.script("hooks/pre_script.sh", "exit 0")
            _ = try harness.script("hooks/post_script.sh", "exit 0")
            try await harness.add("3724301")
            try await harness.reached("added", "3724301")
            let sent = try harness.mails()
            #expect(sent.count == 1 && sent.joined().contains("To: admin@example.org"), "\(sent)")
            let mail = sent.joined()
            #expect(mail.contains("pre_script.sh") && mail.contains("post_script.sh"), "\(mail)")
            #expect(mail.contains("job \(details.id), provisioning add 3724300"), "\(mail)")
            #expect(daemon.output.ranges(of: alert).count == 1)
            await harness.stop(daemon)
        }
    }

    @Test(
        "D4 a missing pre script with SKIP_ON_PRE_FAILURE is wrong configuration, reported with its hint; the request is not processed"
    )
    func missingPre() async throws {
        try await DaemonHarness.run { harness in
            _ = try harness.script("hooks/post_script.sh", "exit 0")
            try harness.settings(backup: Self.hooks(harness))
            let daemon = try await harness.running()
            let warning = "Provisioning pre script: \(harness.path("hooks/pre_script.sh"))"
            try await daemon.says(warning)
            daemon.kill(SIGHUP)
            try await eventually("a reload warns as well") { daemon.output.ranges(of: warning).count == 2 }
            try await harness.add("3724300")
            try await eventually("the entry says that it failed") {
                try await harness.text("3724300", "sstProvisioningReturnValue") ?? "0" != "0"
            }
            let details = try await harness.ended(
                try #require(try await harness.newest("Provisioning", of: "3724300")).id)
            #expect(details.result == .wrongConfiguration, "\(details)")
            #expect(details.reportText.contains(harness.path("hooks/pre_script.sh")), "\(details.report)")
            #expect(!FileManager.default.fileExists(atPath: harness.home("3724300").path))
            await harness.stop(daemon)
        }
    }
}
