// The health check of MongoDB in docker-compose.yml, for mongosh. The first check creates the
// replica set and the accounts. The server is healthy when it accepts writes and the service can
// sign in.
//
// `root` is for administration, `carillon` for the service. While there is no account, mongod lets
// clients inside its container create the first one. This is also so for data that were stored
// before the passwords. If MONGODB_PASSWORD has changed, `root` sets the new one.
const admin = db.getSiblingDB('admin');

function signIn(user, password) {
  try {
    admin.auth(user, password);
    return true;
  } catch (error) {
    if (error.codeName !== 'AuthenticationFailed') throw error;
    return false;
  }
}

function ensureAccounts(password, rootPassword) {
  if (signIn('carillon', password)) return;
  if (!signIn('root', rootPassword)) {
    admin.createUser({ user: 'root', pwd: rootPassword, roles: ['root'] });
    signIn('root', rootPassword);
  }
  const account = { pwd: password, roles: ['readWriteAnyDatabase'] };
  if (admin.getUser('carillon')) admin.updateUser('carillon', account);
  else admin.createUser({ user: 'carillon', ...account });
}

if (!db.hello().setName) {
  rs.initiate({ _id: 'carillon', members: [{ _id: 0, host: 'mongo:27017' }] });
}
if (!db.hello().isWritablePrimary) quit(1);
ensureAccounts(process.env.MONGODB_PASSWORD, process.env.MONGODB_ROOT_PASSWORD);
