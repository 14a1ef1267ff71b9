import CLDAP
import Glibc

/// The state that libldap has for the whole process.
public enum LDAPLibrary {
    /// Keeps out what lies about: ldap.conf, `ldaprc` in the home and in the working directory, the variables `LDAP…`, and Cyrus SASL's
    /// mechanisms, which would all be loaded (the only one in use, EXTERNAL, is built in).
    ///
    /// To be called before the first connection, by a program while it has one thread: it changes the environment.
    public static func ignoreSurroundings() {
        unsafe setenv(noInitialization, "1", 1)
        unsafe setenv("SASL_PATH", "/nonexistent", 1)
    }

    /// With this variable the library reads no file and no other variable (ldap.conf(5)).
    private static let noInitialization = "LDAPNOINIT"

    /// The first call into the library must be alone: it fills global variables.
    static let isReady: Bool = {
        if unsafe getenv(noInitialization) == nil { ignoreSurroundings() }
        // Before, so that no resolver is asked; and after, since the hosts file may have another name for it.
        cldap_keep_localhost()
        defer { cldap_keep_localhost() }
        var version: Int32 = 0
        return unsafe ldap_get_option(nil, LDAP_OPT_PROTOCOL_VERSION, &version) == LDAP_OPT_SUCCESS
    }()
}
