import Daemon
import Foundation
import Testing

@testable import prov_backup_rsnapshot

struct SettingsFaultTests {
    private let fixture: SettingsFixture

    init() throws { fixture = try SettingsFixture() }

    /// One wrong line after the required settings; its number in the file, its key and a part of the message.
    static let faults: [(lines: String, key: String, message: String)] = [
        ("[Global]\nLOG_DEBUG = perhaps", "LOG_DEBUG", "neither yes nor no"),
        ("[Global]\nSLEEP = 0", "SLEEP", "out of range"),
        ("[Global]\nATTEMPTS = 0", "ATTEMPTS", "out of range"),
        ("[Mail]\nSENDTO = a@b@c", "SENDTO", "such as operator@example.org"),
        ("[Mail]\nSENDMAIL = sendmail", "SENDMAIL", "not an absolute path"),
        ("[Database]\nBACKEND = SQL", "BACKEND", "write LDAP"),
        ("[Database]\nPORT = 70000", "PORT", "1 to 65535"),
        ("[Database]\nSERVER = http://example.org", "SERVER", "write ldap://HOST"),
        ("[Database]\nADMIN_USER = nonsense", "ADMIN_USER", "character"),
        ("[Database]\nSERVICE_SUBTREE = ou=a,,dc=org", "SERVICE_SUBTREE", "character"),
        ("[Database]\nSERVICE_SUBTREE =", "SERVICE_SUBTREE", "the parent of the accounts is not set"),
        ("[Database]\nSERVER =", "SERVER", "no LDAP server is named"),
        ("[Database]\nSEARCH_FILTER = (uid=1", "SEARCH_FILTER", "not a search filter"),
        ("[Database]\nSEARCH_FILTER = (entryCSN>=%entryCSN%)", "SEARCH_FILTER", "no longer filled in"),
        ("[Database]\nDETECTION = pol", "DETECTION", "did you mean poll?"),
        ("[Database]\nPOLL_INTERVAL = 0", "POLL_INTERVAL", "out of range"),
        ("[Database]\nTLS_CA_FILE = /none/ca.pem", "TLS_CA_FILE", "No such file"),
        ("[Database]\nTLS_CERT_FILE = /etc/passwd", "TLS_CERT_FILE", "set TLS_KEY_FILE"),
        ("[Database]\nSASL_MECHANISM = GSSAPI", "SASL_MECHANISM", "write none or EXTERNAL"),
        ("[Database]\nADMIN_PASSWORD_FILE = pw", "ADMIN_PASSWORD_FILE", "not an absolute path"),
        ("[Attributes]\nMODE = 1mode", "MODE", "not an attribute name"),
        ("[Attributes]\nMODE =", "MODE", "not an attribute name"),
        ("[Service]\nMODUS = other", "MODUS", "write selfcare"),
        ("[Service]\nTRANSPORTAPI = CLISSH", "TRANSPORTAPI", "write LocalCLI"),
        ("[Service]\nSERVICE = Mail", "SERVICE", "TYPE = Script"),
        ("[Service]\nSERVICE = my mail", "SERVICE", "not a name"),
        ("[Service]\nTYPE = Bacula", "TYPE", "write Rsnapshot or Script"),
        ("[Service]\nHOST = any backup1", "HOST", "cannot be combined"),
        ("[Service]\nHOST = bad*name", "HOST", "not a host name"),
        ("[Service]\nSLOTS = 0", "SLOTS", "out of range"),
        ("[Service]\nOVERDUE = later", "OVERDUE", "write run or skip"),
        ("[Service]\nTIME_ZONE = Europe/Nowhere", "TIME_ZONE", "/usr/share/zoneinfo"),
        ("[Service]\nTIME_ZONE = ../../../etc/passwd", "TIME_ZONE", "path, not a name"),
        ("[Service]\nTIME_ZONE = Europe", "TIME_ZONE", "no such time zone"),
        ("[Service]\nRETRY_MAX_DELAY = 1s", "RETRY_MAX_DELAY", "RETRY_DELAY"),
        ("[Service]\nRUNTIME_DIRECTORY = run", "RUNTIME_DIRECTORY", "not an absolute path"),
        ("[Backup]\nHOME_ROOTS = /", "HOME_ROOTS", "whole file system"),
        ("[Backup]\nHOME_ROOTS = /var/backup //.", "HOME_ROOTS", "whole file system"),
        ("[Backup]\nHOME_ROOTS = backup", "HOME_ROOTS", "not an absolute path"),
        ("[Backup]\nHOME_ROOTS =", "HOME_ROOTS", "no directory is named"),
        ("[Backup]\nHOME_SCRIPT = script.sh", "HOME_SCRIPT", "not an absolute path"),
        ("[Backup]\nQUOTA = zfs", "QUOTA", "write none or setquota or btrfs"),
        ("[Backup]\nSNAPSHOTS = read-only", "SNAPSHOTS", "write own or readonly or hidden"),
        ("[Backup]\nOWNERSHIP = none\nSNAPSHOTS = readonly", "SNAPSHOTS", "run the daemon as root"),
        ("[Backup]\nQUOTA = btrfs\nSNAPSHOTS = hidden", "SNAPSHOTS", "QUOTA = btrfs limits"),
        ("[Backup]\nBACKUP_SANDBOX = off\nSNAPSHOTS = readonly", "SNAPSHOTS", "BACKUP_SANDBOX = on"),
        ("[Backup]\nPURGE_AFTER_DAYS = -1", "PURGE_AFTER_DAYS", "out of range"),
        ("[Pool a]\nVOLUMES = /home", "VOLUMES", "is below none of HOME_ROOTS"),
        ("[Pool a]\nVOLUMES = /var/backup2", "VOLUMES", "is below none of HOME_ROOTS"),
        ("[Pool a]\nVOLUMES =", "VOLUMES", "no volumes"),
        ("[Script]\nADD = add.sh", "ADD", "not an absolute path"),
        ("[Script]\nATTRIBUTES = uid 1x", "ATTRIBUTES", "not an attribute name"),
        ("[Script]\nATTRIBUTES = uid UID", "ATTRIBUTES", "name each once"),
        ("[Script]\nEXIT_PROFILE = none", "EXIT_PROFILE", "add a section [Exit none]"),
        ("[Script]\nTIMEOUT = 0", "TIMEOUT", "out of range"),
        ("[Scripts]\nEVENTS_DIRECTORY = scripts", "EVENTS_DIRECTORY", "not an absolute path"),
        ("[Scripts]\nEVENT_TIMEOUT = soon", "EVENT_TIMEOUT", "not a duration"),
        ("[Scripts]\nMAX_JOBS = 0", "MAX_JOBS", "out of range"),
        ("[Hooks Backup]\nENABLED = maybe", "ENABLED", "neither yes nor no"),
        ("[Hooks Backup]\nDIRECTORY = hooks", "DIRECTORY", "not an absolute path"),
        ("[Hooks Backup]\nWINDOW = 22-6", "WINDOW", "such as 22:00-06:00"),
        ("[Hooks Backup]\nWINDOW = 22:00-22:00", "WINDOW", "for any time"),
        ("[Hooks Backup]\nTIMEOUT = 0", "TIMEOUT", "out of range"),
        ("[Job a]\nSCRIPT = a.sh", "SCRIPT", "not an absolute path"),
        ("[Job a]\nSCRIPT = /a.sh.template", "SCRIPT", "a template is never run"),
        ("[Job a]\nSCRIPT = /a.sh\nSCHEDULE = 0 24 * * *", "SCHEDULE", "hour (character 3): 24 is not a valid hour"),
        ("[Job a]\nSCRIPT = /a.sh\nSCHEDULE = 0 0 30 2 *", "SCHEDULE", "this never occurs"),
        ("[Job a]\nSCRIPT = /a.sh\nSCHEDULE = @reboot", "SCHEDULE", "systemd unit"),
        ("[Job a]\nSCRIPT = /a.sh\nPRIORITY = 101", "PRIORITY", "1 to 100"),
        ("[Job a]\nSCRIPT = /a.sh\nEXIT_PROFILE = mine", "EXIT_PROFILE", "lightsout-server"),
        ("[Job a]\nSCRIPT = /a.sh\nRUN_AS = -x", "RUN_AS", "not the name of a user"),
        ("[Exit mine]\n1 = perhaps", "1", "write success or failed"),
        ("[Exit mine]\n0 = retry", "0", "write 0 = success"),
        ("[Backup Jobs]\nSLOTS = 0", "SLOTS", "out of range"),
        ("[Backup Jobs]\nTIMEOUT = 0", "TIMEOUT", "out of range"),
        ("[Backup Jobs]\nWINDOW = night", "WINDOW", "such as 22:00-06:00"),
        ("[Backup Jobs]\nHOURLY = * * * *", "HOURLY", "there are 4 of five fields"),
        ("[Backup Jobs]\nDAILY = @dayly", "DAILY", "@dayly is not a valid name"),
        ("[Backup Jobs]\nWRITE_LAST_SUCCESS = maybe", "WRITE_LAST_SUCCESS", "neither yes nor no"),
        ("[History]\nFILE = history", "FILE", "not an absolute path"),
        ("[History]\nKEEP_DAYS = 0", "KEEP_DAYS", "out of range"),
        ("[History]\nKEEP_JOBS = none", "KEEP_JOBS", "not a whole number"),
        // Where a key is missing, the section's own line is named.
        ("[Job a]", "SCRIPT", "set SCRIPT"),
        ("[Backup Jobs]\nWINDOW = 20:00-06:00\n[Hooks Backup]\nWINDOW = 22:00-06:00", "WINDOW", "keep one of the two"),
        ("[Hooks Backup]\nENABLED = yes\n[Hooks Backup]\nDIRECTORY =", "DIRECTORY", "no directory is named"),
    ]

    @Test(arguments: faults)
    func `a wrong value is named by file, line and key, with its hint`(
        fault: (lines: String, key: String, message: String)
    ) throws {
        // The line is the last one, so it overrides earlier ones.
        let text = SettingsFixture.minimum + fault.lines
        let errors = try fixture.errors(text)
        #expect(errors.map(\.key) == [fault.key])
        let line = text.split(separator: "\n", omittingEmptySubsequences: false).count
        let shown = try #require(errors.first).description
        #expect(shown.hasPrefix("\(fixture.directory.appending("service.conf")):\(line): ["))
        #expect(shown.contains(fault.message))
        #expect(errors.first?.hint.isEmpty == false)
    }

    @Test func `all errors are found in one pass`() throws {
        let errors = try fixture.errors(
            "[Database]\nPORT = x\nnonsense\n[Service]\nSLOTS = 0\n", environment: ["PROV_BACKUP_QUOTA": "much"])
        #expect(Set(errors.map(\.key)) == ["PORT", nil, "SLOTS", "QUOTA", "SERVER", "SERVICE_SUBTREE"])
        #expect(errors.count == 6)
    }

    @Test func `a user without a password, a password without a user and EXTERNAL without a certificate are refused`()
        throws
    {
        let base = "[Database]\nSERVER = ldap://localhost\nSERVICE_SUBTREE = dc=org\n"
        #expect(try fixture.errors(base + "ADMIN_USER = cn=a\n").map(\.hint).joined().contains("ADMIN_PASSWORD_FILE"))
        #expect(try fixture.errors(base + "ADMIN_PASSWORD = hunter2\n").map(\.key) == ["ADMIN_PASSWORD"])
        #expect(try fixture.errors(base + "SASL_MECHANISM = EXTERNAL\n").map(\.key) == ["SASL_MECHANISM"])
        #expect(try fixture.errors(base + "ADMIN_USER = cn=a\nADMIN_PASSWORD = hunter2\n").isEmpty)
    }

    @Test func `a password's file that is missing is one error, not also a missing password`() throws {
        let errors = try fixture.errors(
            "[Database]\nSERVER = ldap://localhost\nSERVICE_SUBTREE = dc=org\nADMIN_USER = cn=a\nADMIN_PASSWORD_FILE = /none\n"
        )
        #expect(errors.map(\.key) == ["ADMIN_PASSWORD_FILE"])
    }

    @Test func `a service file with a password that others can read is refused, and no secret is shown`() throws {
        let file = try fixture.file(
            "open.conf", SettingsFixture.minimum + "ADMIN_USER = cn=a\nADMIN_PASSWORD = hunter2\nSLOTS = x\n",
            mode: 0o644)
        let (settings, warnings, errors) = DaemonConfiguration.load(service: file, global: nil, environment: [:])
        #expect(settings == nil)
        #expect(errors.contains { $0.description.contains("chmod 600 \(file)") })
        var shown = "\(errors) \(String(reflecting: errors)) \(warnings)"
        dump(errors, to: &shown)
        #expect(!shown.contains("hunter2"))
    }

    @Test func `a missing file is reported with its path, without missing keys`() throws {
        let missing = fixture.directory.appending("none.conf")
        let (settings, warnings, errors) = DaemonConfiguration.load(service: missing, global: nil, environment: [:])
        #expect(settings == nil && errors.count == 1 && warnings.isEmpty)
        #expect(errors.first?.description.hasPrefix("\(missing): the file cannot be read: No such file") == true)
    }
}
