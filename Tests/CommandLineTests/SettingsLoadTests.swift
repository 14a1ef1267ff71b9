import Daemon
import LDAP
import Foundation
import Provisioning
import Testing

@testable import prov_backup_rsnapshot

struct SettingsLoadTests {
    private let fixture: SettingsFixture

    init() throws { fixture = try SettingsFixture() }

    @Test func `settings that need a restart keep their values until then, and others count at once`() throws {
        let (start, _) = try fixture.load(SettingsFixture.minimum)
        let changed =
            SettingsFixture.minimum + """
                [Service]
                HOST = b.example.org
                STATE_DIRECTORY = /srv/state
                [Attributes]
                CLAIM = provisioningClaim

                """
        let written = try fixture.load(changed).settings
        let inForce = try written.untilRestart(of: start)
        #expect(inForce.service.hosts == written.service.hosts && inForce.service.hosts != start.service.hosts)
        #expect(inForce.backup.lockDirectory == start.backup.lockDirectory)
        #expect(inForce.engine.scope.names.claim == nil && written.engine.scope.names.claim == "provisioningClaim")
        #expect(start.restartNeeded(for: inForce) == ["[Attributes] CLAIM", "[Service] STATE_DIRECTORY"])
        // Taken back.
        let again = try start.untilRestart(of: start)
        #expect(start.restartNeeded(for: again).isEmpty && again.engine.scope.names.claim == nil)
    }

    @Test func `a password from a file that others can read is not taken over`() throws {
        for (mode, errors) in [(0o600, 0), (0o644, 1)] {
            let password = try fixture.file("password", "secret\n", mode: mode)
            let service = try fixture.file(
                "service.conf", "[Database]\nADMIN_PASSWORD_FILE = \(password)\n[Service]\nSLOTS = none\n")
            let settings = Settings(.daemon, files: [service], environment: [:])
            #expect(settings.errors(of: \DatabaseSettings.password).count == errors)
            #expect(settings.errors(of: \ServiceSettings.runtimeDirectory).isEmpty)
        }
    }

    @Test func `the required settings give the documented defaults`() throws {
        let (settings, warnings) = try fixture.load(SettingsFixture.minimum)
        #expect(warnings.isEmpty)
        #expect(settings.global.log == LogSwitches(debug: false, info: true, warning: true, error: true))
        #expect(settings.global.environment == ThisHost.name)
        #expect(settings.engine.ldapRetry.delay == .seconds(10))
        #expect(settings.engine.ldapRetry.maximumDelay == .seconds(30))
        #expect(settings.engine.ldapAttemptsUntilError.atStart == 3)
        #expect(settings.engine.ldapAttemptsUntilError.inOperation == 3)
        #expect(settings.engine.connection.credentials == .external)
        #expect(settings.engine.timing.detection == .auto)
        #expect(settings.engine.timing.pollInterval == .seconds(10))
        #expect(settings.engine.timing.relistInterval == .seconds(300))
        #expect(settings.engine.connection.connectTimeout == .seconds(10))
        #expect(settings.engine.connection.operationTimeout == .seconds(30))
        #expect(settings.engine.scope.condition == nil)
        #expect(settings.engine.scope.names.dates == ["sstProvisioningExecutionDate", "sstProvisioningDate"])
        #expect(settings.engine.scope.names.returnValue == "sstProvisioningReturnValue")
        #expect(settings.engine.scope.names.claim == nil)
        #expect(settings.service.syslog == "Backup-Rsnapshot")
        #expect(settings.service.hosts == .any)
        #expect(settings.service.slots == 4)
        #expect(settings.engine.policy.runsOverdue)
        #expect(settings.engine.policy.deleteNeedsInactive)
        #expect(settings.service.retry.maximumAttempts == 5)
        #expect(settings.service.retry.delay == .seconds(10))
        #expect(settings.service.retry.maximumDelay == .seconds(3_600))
        #expect(settings.service.stopGrace == .seconds(30))
        #expect(settings.service.stateDirectory == "/var/lib/prov-backup-rsnapshot")
        #expect(settings.service.runtimeDirectory == "/run/prov-backup-rsnapshot")
        #expect(settings.backup.homeScript == "/etc/Provisioning/Backup/create-chroot.sh")
        #expect(settings.backup.scriptTimeout == .seconds(300))
        #expect(settings.backup.scriptGrace == .seconds(10))
        #expect(settings.backup.places.roots == ["/var/backup"])
        #expect(settings.backup.places.layout == .attribute)
        #expect(settings.backup.ownership == .account)
        #expect(settings.backup.quota == .none)
        #expect(settings.backup.rsnapshot == "/usr/bin/rsnapshot")
        #expect(settings.backup.configurationDirectory == "/etc/rsnapshot.d")
        #expect(settings.backup.configurationTest == .template)
        #expect(settings.backup.onDelete == .keep)
        #expect(settings.backup.purgeAfterDays == 30)
        #expect(!settings.backup.requireSystemUser)
        #expect(settings.backup.places.configuredPools.isEmpty)
        #expect(settings.mail.sendmail == "/usr/sbin/sendmail")
    }

    @Test func `the files of the old daemon load, with one warning for each retired name`() throws {
        let global = """
            [Global]
            LOG_DEBUG = 1
            LOG_INFO = 1
            LOG_WARNING = 1
            LOG_ERR = 1
            SLEEP = 10
            ATTEMPTS = 3
            ENVIRONMENT = test
            [Operation Mode]
            SLEEP = 30
            ATTEMPTS = 3
            [Mail]
            SENDTO = root@localhost
            HOST = mail.example.org
            PORT = 587
            USERNAME = daemon
            PASSWORD = mail-hunter2
            FROMNAME = Provisioning
            CA_DIR = /etc/ssl/certs
            SSL = starttls
            AUTH_METHOD = LOGIN
            WANTINFOMAIL = 1
            """
        let service = """
            [Database]
            BACKEND = LDAP
            SERVER = ldaps://ldap.example.org
            PORT = 636
            ADMIN_USER = cn=Manager,dc=stoney-cloud,dc=org
            ADMIN_PASSWORD = hunter2
            SERVICE_SUBTREE = ou=accounts,ou=backup,ou=services,dc=stoney-cloud,dc=org
            COOKIE_FILE = /var/cache/cookie
            DEFAULT_COOKIE = rid=000,csn=20130819000000.000000Z#000000#000#000000
            SEARCH_FILTER = (&(entryCSN>=%entryCSN%)(objectClass=*))
            [Service]
            MODUS = selfcare
            TRANSPORTAPI = LocalCLI
            SERVICE = Backup
            TYPE = Rsnapshot
            SYSLOG = Backup-Rsnapshot
            [Gateway]
            HOST = localhost
            USER = provisioning
            DSA_FILE = none
            [Backup]
            """
        let (settings, warnings) = try fixture.load(service, global: global)
        #expect(settings.global.log == LogSwitches(debug: true))
        #expect(settings.global.environment == "test")
        #expect(settings.mail.recipients.map(\.description) == ["root@localhost"])
        #expect(settings.engine.scope.condition == nil)
        #expect(try settings.engine.servers == [ServerAddress(parsing: "ldaps://ldap.example.org:636")])
        guard case .simple(let user, let password) = settings.engine.connection.credentials else {
            return #expect(Bool(false), "\(settings.engine.connection.credentials)")
        }
        #expect(try user == DN(parsing: "cn=Manager,dc=stoney-cloud,dc=org"))
        #expect(password.expose() == "hunter2")
        #expect(
            warnings.map { "\($0.section ?? "") \($0.key ?? "")" } == [
                "Mail HOST", "Mail PORT", "Mail USERNAME", "Mail PASSWORD", "Mail CA_DIR", "Mail SSL",
                "Mail AUTH_METHOD", "Mail WANTINFOMAIL",
                "Database COOKIE_FILE", "Database DEFAULT_COOKIE", "Gateway ",
            ])
        #expect(warnings.allSatisfy { $0.reason.hasPrefix("no longer used: ") })
        var shown = "\(settings) \(warnings)"
        dump(settings, to: &shown)
        #expect(!shown.contains("hunter2"))
    }

    @Test(arguments: ["auto", "off", "nonsense"])
    func `every value of GROUP_COMMIT is ignored with one warning`(value: String) throws {
        let (_, warnings) = try fixture.load(SettingsFixture.minimum + "GROUP_COMMIT = \(value)\n")
        #expect(warnings.map { "\($0.section ?? "") \($0.key ?? "")" } == ["Database GROUP_COMMIT"])
        #expect(warnings.allSatisfy { $0.reason.hasPrefix("no longer used: ") })
    }

    @Test func `the environment wins, also with an empty value, and blanks are underscores`() throws {
        let (settings, _) = try fixture.load(
            SettingsFixture.minimum
                + "[Service]\nSLOTS = 2\n[Pool fast]\nVOLUMES = /srv/a\n[Backup]\nHOME_ROOTS = /srv\n",
            environment: [
                "PROV_SERVICE_SLOTS": "8", "PROV_OPERATION_MODE_SLEEP": "1m", "PROV_BACKUP_HOME_SCRIPT": "",
                "PROV_ATTRIBUTES_RETURN_VALUE": "", "PROV_POOL_FAST_VOLUMES": "/srv/b /srv/c",
            ])
        #expect(settings.service.slots == 8)
        #expect(settings.engine.ldapRetry.maximumDelay == .seconds(60))
        #expect(settings.backup.homeScript == nil)
        #expect(settings.engine.scope.names.returnValue == nil)
        #expect(settings.backup.places.configuredPools == [.init(name: "fast", volumes: ["/srv/b", "/srv/c"])])
    }

    @Test func `HOST is any, auto, or a list`() throws {
        func hosts(_ text: String) throws -> HostSelection {
            try fixture.load(SettingsFixture.minimum + "[Service]\nHOST = \(text)\n").settings.service.hosts
        }
        #expect(try hosts("ANY") == .any)
        #expect(try hosts("auto") == .auto)
        #expect(try hosts("backup1 backup2.example.org") == .listed(["backup1", "backup2.example.org"]))
        #expect(HostSelection.any.names == nil)
        #expect(HostSelection.auto.names?.isEmpty == false)
        #expect(HostSelection.auto.names?.contains(where: \.isEmpty) == false)
    }

    @Test func `SEARCH_FILTER is a search filter`() throws {
        let (settings, _) = try fixture.load(
            SettingsFixture.minimum + "SEARCH_FILTER = (sstBelongsToResellerUID=4000000)\n")
        #expect(settings.engine.scope.condition == .equal("sstBelongsToResellerUID", "4000000"))
    }

    @Test func `the port is for host names; an address has its own`() throws {
        let (settings, warnings) = try fixture.load(
            """
            [Database]
            SERVER = ldap1.example.org ldap2.example.org:1389 ldaps://ldap3.example.org
            PORT = 3389
            SASL_MECHANISM = none
            SERVICE_SUBTREE = dc=org
            """)
        #expect(
            settings.engine.servers.map(\.endpoint) == [
                .tcp(host: "ldap1.example.org", port: 3_389, tls: false),
                .tcp(host: "ldap2.example.org", port: 1_389, tls: false),
                .tcp(host: "ldap3.example.org", port: 636, tls: true),
            ])
        #expect(warnings.map(\.key) == ["PORT", "ADMIN_USER"])
    }

    @Test func `insecure settings are warnings`() throws {
        let (_, warnings) = try fixture.load(
            """
            [Database]
            SERVER = ldap://ldap.example.org
            ADMIN_USER = cn=a
            ADMIN_PASSWORD = hunter2
            TLS_REQUIRE = never
            SERVICE_SUBTREE = dc=org
            """)
        #expect(warnings.map(\.key) == ["SERVER", "TLS_REQUIRE"])
        #expect(warnings[0].reason.hasSuffix("without encryption"))
    }
}
