import LDAP
import Glibc
import JobCore
import TestSupport
import Provisioning
import SystemPackage

@testable import BackupService

/// The repository of this file.
let repository = FilePath(#filePath).removingLastComponent().removingLastComponent().removingLastComponent()
let shippedScript = repository.pushing("etc/Provisioning/Backup/create-chroot.sh")
let shippedTemplate = repository.pushing("etc/Provisioning/Backup/rsnapshot-account.conf.template")

/// The entry of a valid account, which tests change.
func accountEntry(home: String, uid: String = "3723707") -> Entry {
    var entry = Entry(dn: DN.root.appending("ou", "accounts").appending("uid", uid))
    entry["uid"] = [AttributeValue(uid)]
    entry["uidNumber"] = [AttributeValue(uid)]
    entry["gidNumber"] = [AttributeValue(uid)]
    entry["homeDirectory"] = [AttributeValue(home)]
    entry["sstQuota"] = ["10737418240"]
    for (level, count) in [("Hourly", "0"), ("Daily", "7"), ("Weekly", "4"), ("Monthly", "3"), ("Yearly", "0")] {
        entry[AttributeName(unchecked: "sstBackupInterval" + level)] = [AttributeValue(count)]
    }
    return entry
}

extension TestDirectory {
    /// The settings of a test: everything in its own directory, the shipped template, no script.
    func configuration(_ change: (inout BackupConfiguration) -> Void = { _ in }) throws -> BackupConfiguration {
        var configuration = BackupConfiguration()
        configuration.homeScript = nil
        configuration.scriptTimeout = .seconds(30)
        configuration.scriptGrace = .seconds(1)
        configuration.places.roots = [homes]
        configuration.ownership = isRoot ? .account : .none
        configuration.configurationDirectory = configurations
        configuration.template = try write(text(shippedTemplate), to: "account.template")
        configuration.configurationTest = .never
        configuration.lockDirectory = path.appending("run")
        change(&configuration)
        return configuration
    }

    func entry(uid: String = "3723707") -> Entry { accountEntry(home: homes.appending(uid).string, uid: uid) }
}

func request(
    _ operation: Operation, _ entry: Entry, attempt: Int = 1,
    demandUnique: @escaping @Sendable () async throws -> Void = {}
) -> ProvisioningRequest {
    ProvisioningRequest(
        operation: operation, entry: entry, job: JobID(17), attempt: attempt, demandUnique: demandUnique)
}

extension BackupRsnapshotService {
    /// Runs the steps of a plan, as the engine does.
    func carryOut(
        _ operation: Operation, _ entry: Entry, attempt: Int = 1, scripts: ScriptRunner = ScriptRunner()
    ) async throws {
        for step in try await plan(request(operation, entry, attempt: attempt)) {
            try await step.perform(in: .alone(attempt, scripts: scripts))
        }
    }

    /// The failure of a request; nil: it succeeded.
    func failure(
        _ operation: Operation, _ entry: Entry, attempt: Int = 1, scripts: ScriptRunner = ScriptRunner()
    ) async throws -> ProvisioningFailure? {
        do {
            try await carryOut(operation, entry, attempt: attempt, scripts: scripts)
            return nil
        } catch let failure as ProvisioningFailure {
            return failure
        }
    }
}
