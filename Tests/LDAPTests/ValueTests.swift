import Testing

@testable import LDAP

struct ServerAddressTests {
    @Test(arguments: [
        ("ldap://ldap.example.org", "ldap://ldap.example.org"), ("LDAP://a:389/", "ldap://a"),
        ("ldap://a:3890", "ldap://a:3890"), ("ldaps://a", "ldaps://a"), ("ldaps://a:636", "ldaps://a"),
        ("ldaps://a:389", "ldaps://a:389"), ("a", "ldap://a"), ("a:1389", "ldap://a:1389"),
        ("[::1]:1389", "ldap://[::1]:1389"),
        ("ldaps://[::1]", "ldaps://[::1]"), ("ldapi://%2Frun%2Fmy%20socket", "ldapi://%2Frun%2Fmy%20socket"),
        ("ldapi:///", "ldapi://%2Fvar%2Frun%2Fslapd%2Fldapi"), ("ldapi://", "ldapi://%2Fvar%2Frun%2Fslapd%2Fldapi"),
    ])
    func `an address is written as its URI`(text: String, uri: String) throws {
        let address = try ServerAddress(parsing: text)
        #expect(address.description == uri)
        #expect(try ServerAddress(parsing: uri) == address)
    }

    @Test(arguments: [
        "", "ldap://", "ldap://:389", "http://a", "ldap://a:0", "ldap://a:65536", "ldap://a:x", "ldap://a/dc=org",
        "ldap://a?x",
        "ldap://u@a", "::1", "ldap://[::1", "ldap://[::1]x", "ldapi://relative", "ldapi://%2", "ldapi://%zz",
        "ldapi://%2F%00",
        "ldap://a b", "a\n", "ldapi://%2F" + String(repeating: "x", count: 200),
    ])
    func `what is not an address is refused with what to write`(text: String) {
        #expect(throws: LDAPSyntaxError.self) { try ServerAddress(parsing: text) }
        do { _ = try ServerAddress(parsing: text) } catch { #expect("\(error)".contains("write ldap://host")) }
    }

    @Test func `the default port serves addresses without one`() throws {
        #expect(try ServerAddress(parsing: "a", defaultPort: 1389).description == "ldap://a:1389")
        #expect(try ServerAddress(parsing: "a:390", defaultPort: 1389).description == "ldap://a:390")
        #expect(try ServerAddress(parsing: "ldaps://a", defaultPort: 1636).description == "ldaps://a:1636")
    }
}

struct SecretTests {
    @Test func `a secret shows itself only when asked`() {
        let credentials = Credentials.simple(bindDN: .root, password: Secret("tell-tale"))
        var dump = ""
        Swift.dump(credentials, to: &dump)
        for text in ["\(credentials)", String(reflecting: credentials), dump] { #expect(!text.contains("tell-tale")) }
        #expect(Secret("tell-tale").expose() == "tell-tale")
    }
}

struct LDAPErrorTests {
    private func error(_ code: ResultCode) -> LDAPError {
        LDAPError(
            code, operation: "modify cn=a", server: "ldap://b", diagnostic: "because", referrals: ["ldap://c"])
    }

    @Test(arguments: [
        ResultCode.invalidCredentials, .insufficientAccessRights, .noSuchObject, .sizeLimitExceeded,
        .unavailableCriticalExtension, .referral, .confidentialityRequired, .connectError, .timeout,
        .syncRefreshRequired,
    ])
    func `the usual errors name their hint`(code: ResultCode) {
        #expect(error(code).description.hasPrefix("modify cn=a at ldap://b: \(code): because"))
        #expect(error(code).hint.map(error(code).description.hasSuffix) == true)
    }

    @Test func `a timeout names the setting that allows more time`() {
        for (operation, setting) in [(LDAPError.connecting, "CONNECT_TIMEOUT"), ("search", "OPERATION_TIMEOUT")] {
            let late = LDAPError(.timeout, operation: operation, server: "ldap://b")
            #expect(late.hint?.contains(setting) == true)
        }
    }

    @Test func `a referral names the server to put first, as SERVER takes it`() {
        #expect(error(.referral).description.contains("put ldap://c first in SERVER"))
        var other = error(.referral)
        other.referrals = ["ldap://[::1]:389/uid=1,ou=x??sub", "ldaps://d"]
        #expect(other.provider == "ldap://[::1]:389 or ldaps://d" && other.isReplicaRefusal)
        other.referrals = []
        #expect(!other.provider.isEmpty)
    }

    @Test func `a replica's refusal is told from others`() {
        var refusal = error(.unwillingToPerform)
        #expect(!refusal.isReplicaRefusal)
        refusal.diagnostic = "shadow context; no update referral"
        #expect(refusal.isReplicaRefusal)
    }

    @Test func `an unknown code keeps its number`() { #expect("\(ResultCode(rawValue: 16654))" == "result (16654)") }

    @Test func `the classes of errors say what to do`() {
        var lost = error(.busy)
        #expect(lost.isBusy && lost.isRetryable)
        lost = error(.noSuchAttribute)
        #expect(!lost.isRetryable)
        lost.isConnectionLost = true
        #expect(lost.isRetryable && error(.timeout).isRetryable)
    }
}
