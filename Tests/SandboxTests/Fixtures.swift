import Sandbox

/// The DN of an account in the example tree.
func accountDN(_ uid: Int) -> String { "uid=\(uid),\(SandboxTree.accountsDN)" }

/// The LDIF of an account with every attribute that the daemon meets, waiting to be added.
func accountLDIF(_ uid: Int) -> String {
    """
    dn: \(accountDN(uid))
    objectClass: top
    objectClass: account
    objectClass: posixAccount
    objectClass: shadowAccount
    objectClass: sstBackup
    objectClass: sstProvisioning
    objectClass: sstRelationship
    objectClass: provisioningClaimable
    uid: \(uid)
    uidNumber: \(uid)
    gidNumber: \(uid)
    cn: Givenname Surname
    gecos: Givenname Surname
    homeDirectory: /home/\(uid)
    loginShell: /bin/sh
    userPassword: secret of \(uid)
    shadowLastChange: 11108
    shadowMax: 99999
    shadowWarning: 7
    shadowFlag: 134539460
    host: backup-01
    description: A note of the web page
    mail: someone@example.org
    preferredLanguage: en-GB
    sstIsActive: TRUE
    sstQuota: 10737418240
    sstVolumeCapacityDefault: 10737418240
    sstVolumeCapacityMin: 1073741824
    sstVolumeCapacityMax: 536870912000
    sstVolumeCapacityStep: 1073741824
    sstBackupIntervalHourly: 0
    sstBackupIntervalDaily: 7
    sstBackupIntervalWeekly: 4
    sstBackupIntervalMonthly: 3
    sstBackupIntervalYearly: 0
    sstBackupWarningDays: 1
    sstBackupWarningNumbers: 0
    sstBackupWarningOn: TRUE
    sstBackupLastSuccessfulBackup: 0
    sstNotificationWarningLevel: 85
    sstNotificationWarningMedium: mail
    sstUseSelfcare: TRUE
    sstUseSSH: TRUE
    sstBelongsToCustomerUID: 4000001
    sstBelongsToPersonUID: 4000002
    sstBelongsToResellerUID: 4000000
    sstProvisioningMode: add
    sstProvisioningState: 0
    sstProvisioningExecutionDate: 0

    """
}

extension LDAPSandbox {
    /// Adds entries as the Manager.
    func load(_ ldif: String) async throws {
        let outcome = try await ldap("ldapadd", self, as: adminDN, adminPassword, ["-c"], input: ldif)
        guard outcome.code == 0 else { throw Refused(outcome) }
    }
}

/// An operation of a test's preparation that the server has refused.
struct Refused: Error, CustomStringConvertible {
    let description: String

    init(_ outcome: Outcome) { description = outcome.errors }
}
