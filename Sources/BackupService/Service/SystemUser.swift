import Glibc
import JobCore
import Provisioning
import SystemPackage

/// Asks the system's user database (nsswitch.conf) about an account.
enum SystemUser {
    /// - Throws: code 2 when it does not know the account, or knows it by another number.
    static func demand(_ account: BackupAccount) throws(ProvisioningFailure) {
        var record = passwd()
        var found: UnsafeMutablePointer<passwd>?
        var buffer = [CChar](repeating: 0, count: 4096)
        var result = getpwnam_r(account.uid, &record, &buffer, buffer.count, &found)
        while result == ERANGE, buffer.count < 1 << 20 {
            buffer = [CChar](repeating: 0, count: buffer.count * 2)
            result = getpwnam_r(account.uid, &record, &buffer, buffer.count, &found)
        }
        let code = ProvisioningExitCode.userNotPresentInBackend
        guard found != nil else {
            // The database says "not there" in several ways (getpwnam(3)); others mean that it did not answer.
            let isAbsent = [0, ENOENT, ESRCH, EBADF, EPERM].contains(result)
            let cause = Errno(rawValue: result)
            guard !cause.isShortage else {
                throw ProvisioningFailure(
                    code, .shortage,
                    reason: "the system's user database could not be asked about \(account.uid): \(cause)",
                    hint: cause.shortageHint(at: "/etc"))
            }
            throw ProvisioningFailure(
                code, isAbsent ? .permanent : .retryable,
                reason:
                    "the system's user database \(isAbsent ? "does not know" : "did not answer about") \(account.uid)",
                hint: "see what getent passwd \(account.uid) says, or set REQUIRE_SYSTEM_USER = no")
        }
        guard record.pw_uid == account.uidNumber else {
            throw ProvisioningFailure(
                code,
                reason: "the system knows \(account.uid) as user \(record.pw_uid), the entry as \(account.uidNumber)",
                hint: "see what getent passwd \(account.uid) says and make both the same")
        }
    }
}
